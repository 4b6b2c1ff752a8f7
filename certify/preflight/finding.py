"""The findings of checks before a run, and their text."""

from collections.abc import Iterable
from dataclasses import dataclass

ERROR, WARNING, FACT = LEVELS = ("error", "warning", "fact")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One result of a check.

    Attributes:
        level: ``error``: certificates would be void, so a run must not begin. ``warning``: they would hold, but are
            probably not what the user wants. ``fact``: an observation that needs no action.
        check: Name of the check, one or two words.
        seen: The observation, with its numbers.
        meaning: What it means for the certificates; may be empty for a fact.
        fix: What the user should do; empty if nothing needs to be done.
    """

    level: str
    check: str
    seen: str
    meaning: str = ""
    fix: str = ""

    @property
    def line(self) -> str:
        """The whole finding in one line."""
        end = "; ".join(part for part in (self.meaning, self.fix) if part)
        text = f"{self.check}: {self.seen}" + (f": {end}" if end else "")
        return text if text.endswith("?") else f"{text}."


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then facts; findings of one level keep their order."""
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def lines(found: Iterable[Finding], level: str) -> list[str]:
    """The findings of one level, one line each."""
    return [finding.line for finding in found if finding.level == level]
