"""Where the lines of a page may break: not within the names of runs, and after the joints of long technical names."""

import re
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from maxup_smoothing.analysis.report.subjects import printable

_LONGEST = 24  # characters of a name that is kept in one line; a longer one would not fit a telephone


def finished(value: object) -> Markup:
    """A value as a template shows it: escaped, and without what no HTML may hold."""
    return value if isinstance(value, Markup) else escape(printable(str(value)))


def filters(names: Sequence[str]) -> dict[str, Callable[[object], Markup]]:
    """Filters for text between tags, not for attributes.

    ``named`` keeps each of these names of runs in one line, ``jointed`` lets a line break after an underscore or dot.
    """
    kept = sorted({name for name in names if len(name) <= _LONGEST and re.search(r"\W", name)}, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in kept)) if kept else None

    def named(value: object) -> Markup:
        text = printable(str(value))
        if pattern is None or isinstance(value, Markup):
            return finished(value)
        pieces, at = [], 0
        for found in pattern.finditer(text):
            pieces += [escape(text[at : found.start()]), Markup('<span class="name">{}</span>').format(found[0])]
            at = found.end()
        return Markup("").join([*pieces, escape(text[at:])])

    def jointed(value: object) -> Markup:
        return Markup(re.sub(r"(?<=\w)([_.])(?=[^\W\d])", r"\1<wbr>", str(escape(printable(str(value))))))

    return {"named": named, "jointed": jointed}
