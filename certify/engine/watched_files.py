"""The files that a run has read: are they still what they were?"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Source:
    """A file as it was before it was read.

    Attributes:
        path: The file.
        sha256: Of its content.
    """

    path: Path
    sha256: str
    _seen: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> "Source":
        """The file as it is now.

        Raises:
            OSError: If it cannot be read.
        """
        seen = _stat(path)
        return cls(path, _sha256(path), seen)

    def require_unchanged(self, made: str) -> None:
        """Look whether the file is still the same: by its time and size, and by content if those differ.

        Args:
            made: What was made from it, such as "40 rows in radii.tsv".

        Raises:
            ValueError: If it is another file now, with both hashes, or is gone.
        """
        try:
            seen = _stat(self.path)
            now = self.sha256 if seen == self._seen else _sha256(self.path)
        except OSError as error:
            now, seen = f"unknown: {error.strerror}", self._seen
        if now != self.sha256:
            raise ValueError(
                f"{self.path} was replaced while it was used: its SHA-256 was {self.sha256}, and is now {now}. "
                f"The {made} are of the file as it was, whose hash the manifest records, and are right for that one; "
                "to go on put it back, and for the new one write to another file."
            )
        self._seen = seen


def _stat(path: Path) -> tuple[int, ...]:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
