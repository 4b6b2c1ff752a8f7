"""Text fit for a page: values and names out of files made harmless and short, and where lines may break."""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e")
_ISOLATES = frozenset("\u2066\u2067\u2068\u2069")
_LONGEST = 24  # characters of a name: kept in one line on a telephone, and two of them in the title of a figure


def shown(value: object, longest: int = 200) -> str:
    """A value out of a file as text of limited length; numbers with separators, other structures as JSON."""
    if isinstance(value, int) and not isinstance(value, bool):
        text = f"{value:,}" if abs(value) < 10**18 else "a number of more than 18 digits"
    elif isinstance(value, float):
        text = f"{value:,.0f}" if value.is_integer() and 1000 <= abs(value) < 1e15 else f"{value:.12g}"
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= longest else f"{text[: longest - 2]} …"


def printable(text: str) -> str:
    """Text without what no HTML or SVG may hold, or would turn the text after it round: replaced by U+FFFD.

    That is control characters, halves of surrogate pairs (file names that are not UTF-8), and the embeddings and
    overrides of writing direction.
    """
    return "".join("\ufffd" if _forbidden(character) else character for character in text)


def plain_name(name: str) -> str:
    """A name as `printable` text in one line, without isolates either: nothing in it reaches beyond it."""
    return "".join(
        "\ufffd" if character in _ISOLATES or character in "\n\t" else character for character in printable(name)
    )


def isolated(name: str) -> str:
    """A name for running text: kept apart from the words around it where it is written from right to left."""
    name = plain_name(name)
    turned = any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in name)
    return f"\u2068{name}\u2069" if turned else name


def shortened(name: str, longest: int = _LONGEST) -> str:
    """A name of at most so many characters, its middle left out."""
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def _forbidden(character: str) -> bool:
    category = unicodedata.category(character)
    return (category == "Cc" and character not in "\n\t") or category == "Cs" or character in _BIDI_CONTROLS


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
