"""What a campaign has done, in campaign.json; whole or not there, and held by one process."""

import contextlib
import dataclasses
import json
import os
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.campaign_steps import Campaign, Command
from maxup_smoothing.data.runtime import strict_json
from maxup_smoothing.data.runtime.atomic import make_folder, write_atomically

DONE, CUT, FAILED = "done", "cut", "failed"
_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What became of a step or a report.

    Attributes:
        command: As in the list, with its placeholder.
        status: ``done``, ``cut`` (there was no time; it goes on) or ``failed``.
        seconds: That it ran, over all calls; of work that can only be begun again the longest attempt.
        device: The GPU, or the processor without one.
        torch: Version.
        when: UTC, of the end.
        said: Last line of its output; of a failure the last lines.
        of: What a report is about: the steps that were finished.
    """

    command: str
    status: str
    seconds: float
    device: str
    torch: str
    when: str
    said: str
    of: tuple[str, ...] = ()


class Record:
    """The entries of one campaign by name, on disk as soon as they are put.

    Args:
        folder: The campaign's; campaign.json is in it.

    Raises:
        ValueError: If campaign.json is damaged or something else.
        OSError: If it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "campaign.json"
        self.entries: dict[str, Entry] = {}
        if not self.path.exists():
            return
        try:
            self.entries = _entries(strict_json.parse(self.path.read_bytes()))
        except ValueError as error:
            raise ValueError(
                f"{self.path} is not what a campaign writes ({error}); restore it, or give another --out."
            ) from None

    def status(self, name: str) -> str | None:
        """Of a step or report; None if it has not been begun."""
        return self.entries[name].status if name in self.entries else None

    def require(self, campaign: Campaign) -> None:
        """Refuse a record of other commands under the same names.

        Raises:
            ValueError: With the first one that differs.
        """
        for step in campaign.steps:
            old = self.entries.get(step.name)
            if old is not None and old.command != shown(step.command):
                raise ValueError(
                    f"{self.path} is of another campaign: there {step.name} is `{old.command}`, and now it is "
                    f"`{shown(step.command)}`; give another --out."
                )

    def put(self, name: str, entry: Entry) -> None:
        """Record what became of a step or report.

        Raises:
            OSError: If it cannot be written.
        """
        self.entries[name] = entry
        self._write()

    def forget(self, names: Sequence[str]) -> None:
        """Let steps be tried again that failed.

        Raises:
            OSError: If it cannot be written.
        """
        self.entries = {key: entry for key, entry in self.entries.items() if key not in names}
        self._write()

    def _write(self) -> None:
        steps = {name: dataclasses.asdict(entry) for name, entry in self.entries.items()}
        text = json.dumps({"schema": _SCHEMA, "steps": steps}, indent=1, ensure_ascii=False)
        write_atomically(self.path, f"{text}\n".encode())


def shown(command: Command) -> str:
    """A command as it is recorded: without the path of this machine's Python or of the folder."""
    return " ".join(("python", *command))


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other campaigns out of the folder, which is made, for a ``with`` block.

    Raises:
        ValueError: If another one runs in it.
    """
    import fcntl  # not on Windows, which has no signals to stop a step by either

    make_folder(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"a campaign is running in {folder}; wait for it or give another --out.") from None
        except OSError:  # some network file systems lock no folders
            pass
        yield
    finally:
        os.close(descriptor)


def _entries(content: Any) -> dict[str, Entry]:
    if not isinstance(content, dict) or content.get("schema") != _SCHEMA or not isinstance(content.get("steps"), dict):
        raise ValueError(f"it has no steps in schema {_SCHEMA}")
    return {name: _entry(name, values) for name, values in content["steps"].items()}


def _entry(name: str, values: Any) -> Entry:
    types = typing.get_type_hints(Entry)
    if not isinstance(values, dict) or set(values) != set(types):
        raise ValueError(f"{name} has not the keys {', '.join(types)}")
    of = values["of"]
    if not isinstance(of, list) or not all(isinstance(step, str) for step in of):
        raise ValueError(f"{name} has of = {of!r}")
    for key, value in values.items():
        wanted = (int, float) if key == "seconds" else list if key == "of" else str
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ValueError(f"{name} has {key} = {value!r}")
    if values["status"] not in (DONE, CUT, FAILED):
        raise ValueError(f"{name} has status = {values['status']!r}")
    return Entry(**{**values, "of": tuple(of)})
