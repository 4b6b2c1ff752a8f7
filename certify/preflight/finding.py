"""What a check before a run found."""

from collections.abc import Iterable
from dataclasses import dataclass

ERROR, WARNING, FACT = LEVELS = ("error", "warning", "fact")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing seen before a run.

    Attributes:
        level: ``error``, certificates would be void and a run must not begin; ``warning``, they would hold but are
            probably not what is wanted; ``fact``, nothing to worry about.
        check: What was looked at, one or two words.
        seen: What was seen, with its numbers.
        meaning: What that means for the certificates; may be empty in a fact.
        fix: What to do; empty where there is nothing to do.
    """

    level: str
    check: str
    seen: str
    meaning: str = ""
    fix: str = ""

    @property
    def line(self) -> str:
        """All of it in one line."""
        end = "; ".join(part for part in (self.meaning, self.fix) if part)
        text = f"{self.check}: {self.seen}" + (f": {end}" if end else "")
        return text if text.endswith("?") else f"{text}."


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then facts, each in their order."""
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def lines(found: Iterable[Finding], level: str) -> list[str]:
    """The findings of one level, a line each."""
    return [finding.line for finding in found if finding.level == level]
