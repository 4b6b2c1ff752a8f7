"""Disks that fail: a process that dies at a chosen call, calls that are refused, and what a power cut may leave.

All of them stand between the code and the functions of ``os`` that are listed in ``CALLS``.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CALLS = ("open", "write", "fsync", "ftruncate", "replace", "unlink", "mkdir")


class Died(BaseException):
    """The process is no more: whatever it would still do to the disk does not happen."""


@dataclass
class Calls:
    """Counts the calls that change a folder, and may interfere with one of them.

    Attributes:
        root: The folder; calls elsewhere pass.
        interfere: Called with (number, name, arguments, do) in place of the call.
        names: The calls so far.
        log: The changes, for a `PowerCut`.
    """

    root: Path
    interfere: Callable[[int, str, tuple[Any, ...], Callable[..., Any]], Any] | None = None
    names: list[str] = field(default_factory=list)
    dead: bool = False
    log: list[tuple[Any, ...]] = field(default_factory=list)
    _files: dict[int, str] = field(default_factory=dict)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            patch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **named: Any) -> Any:
            place = self._files.get(first) if isinstance(first, int) else os.path.abspath(os.fspath(first))
            if place is None or not (place + "/").startswith(f"{self.root}/"):
                return real(first, *rest, **named)
            if name == "open" and not rest[0] & (os.O_CREAT | os.O_TRUNC):  # changes nothing
                descriptor = real(first, *rest, **named)
                self._files[descriptor] = place
                return descriptor
            if self.dead:
                raise Died
            self.names.append(name)
            number = len(self.names) - 1

            def do(*changed: Any) -> Any:
                return self._do(name, real, place, changed or (first, *rest), named)

            return self.interfere(number, name, (first, *rest), do) if self.interfere else do()

        return call

    def _do(self, name: str, real: Callable[..., Any], place: str, given: tuple[Any, ...], named: Any) -> Any:
        existed = os.path.exists(place)
        size = os.fstat(given[0]).st_size if isinstance(given[0], int) else 0
        result = real(*given, **named)
        if name == "open":
            self._files[result] = place
            if not existed:
                self.log.append(("create", place))
            elif given[1] & os.O_TRUNC:
                self.log.append(("truncate", place, 0))
        elif name == "write":
            self.log.append(("write", place, size, bytes(given[1])[:result]))
        elif name == "ftruncate":
            self.log.append(("truncate", place, given[1]))
        elif name == "fsync":
            self.log.append(("fsync", place))
        elif name == "replace":
            target = os.path.abspath(os.fspath(given[1]))
            self.log.append(("replace", place, target))
            self._files.update({number: target for number, file in self._files.items() if file == place})
        else:
            self.log.append((name, place))
        return result


def dies_at(number: int, torn: int | None = None, after: bool = False) -> Callable[..., Any]:
    """For `Calls.interfere`: death before or after a call, or with only ``torn`` bytes of a write written."""

    def interfere(calls: Calls) -> Callable[[int, str, tuple[Any, ...], Callable[..., Any]], Any]:
        def call(found: int, name: str, given: tuple[Any, ...], do: Callable[..., Any]) -> Any:
            if found != number:
                return do()
            if after:
                do()
            elif torn is not None and name == "write":
                do(given[0], bytes(given[1])[:torn])
            calls.dead = True
            raise Died

        return call

    return interfere


@dataclass
class _Node:
    """A file or folder: what is on the disk for certain, and what was done since it was synced."""

    content: Any  # bytes, or names and their nodes
    pending: list[tuple[Any, ...]] = field(default_factory=list)

    def now(self) -> Any:
        return _applied(self.content, self.pending)


def _applied(content: Any, done: Sequence[tuple[Any, ...]]) -> Any:
    if isinstance(content, dict):
        names = dict(content)
        for kind, name, node in done:
            if kind == "link":
                names[name] = node
            elif names.get(name) is node:
                del names[name]
        return names
    for kind, offset, data in done:
        if kind == "truncate":
            content = content[:offset].ljust(offset, b"\0")
        else:
            content = content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]
    return content


class PowerCut:
    """A disk that keeps for certain what was synced, and of the rest anything: each change or not, torn, or zeros.

    The names in a folder are certain when the folder was synced; each change of them by itself may be lost.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._top = _Node({})
        for file in sorted(root.rglob("*")):
            self._folder(str(file)).content[file.name] = _Node({} if file.is_dir() else file.read_bytes())

    def _node(self, place: str) -> _Node:
        node = self._top
        for name in Path(place).relative_to(self.root).parts:
            node = node.now()[name]
        return node

    def _folder(self, place: str) -> _Node:
        return self._node(os.path.dirname(place))

    def do(self, change: tuple[Any, ...]) -> None:
        kind, place, *rest = change
        name = os.path.basename(place)
        if kind in ("create", "mkdir"):
            self._folder(place).pending.append(("link", name, _Node(b"" if kind == "create" else {})))
        elif kind == "unlink":
            self._folder(place).pending.append(("unlink", name, self._node(place)))
        elif kind == "replace":
            node = self._node(place)
            # The name appears and the other goes; a disk that does only one of them is allowed.
            self._folder(rest[0]).pending.append(("link", os.path.basename(rest[0]), node))
            self._folder(place).pending.append(("unlink", name, node))
        elif kind == "fsync":
            node = self._node(place)
            node.content, node.pending = node.now(), []
        elif kind == "truncate":
            self._node(place).pending.append(("truncate", rest[0], b""))
        else:
            self._node(place).pending.append(("write", rest[0], rest[1]))

    def states(self) -> Iterator[dict[str, bytes]]:
        """All that the disk may hold after a cut now: contents by path below the root."""
        yield from self._below(self._top)

    def _below(self, folder: _Node) -> Iterator[dict[str, bytes]]:
        for kept in _subsets(folder.pending):
            names = _applied(folder.content, kept)
            choices = [[(name, choice) for choice in self._contents(node)] for name, node in sorted(names.items())]
            for together in itertools.product(*choices):
                state: dict[str, bytes] = {}
                for name, content in together:
                    if isinstance(content, bytes):
                        state[name] = content
                    else:
                        state.update({f"{name}/{inner}": data for inner, data in content.items()} or {f"{name}/": b""})
                yield state

    def _contents(self, node: _Node) -> list[Any]:
        if isinstance(node.content, dict):
            return list(self._below(node))
        found: dict[Any, None] = {}
        for kept in _subsets(node.pending):
            found[_applied(node.content, kept)] = None
            if kept and kept[-1][0] == "write":
                _, offset, data = kept[-1]
                middle = len(data) // 2
                zeros = b"\0" * len(data)
                for part in (data[:1], data[:middle], data[:-1], zeros, data[:middle] + zeros[middle:],
                             zeros[:middle] + data[middle:]):  # fmt: skip
                    found[_applied(node.content, [*kept[:-1], ("write", offset, part)])] = None
        return list(found)


def _subsets(changes: Sequence[tuple[Any, ...]]) -> list[list[tuple[Any, ...]]]:
    chosen = itertools.product((False, True), repeat=len(changes))
    return [[change for change, keep in zip(changes, kept, strict=True) if keep] for kept in chosen]


def put(state: dict[str, bytes], folder: Path) -> None:
    """Make a folder hold a state."""
    folder.mkdir()
    for name, content in state.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            (folder / name).write_bytes(content)
