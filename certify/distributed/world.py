"""The processes of a run that torchrun starts: their numbers, and the store that they share.

Images are independent, so there is nothing to reduce, and no process group (gloo or nccl) is needed: the store of
torchrun's rendezvous is enough. A counter in the store gives the next image to the process that asks first. A slow
process thus takes fewer images and does not delay the others.

The store may outlive the processes: torchrun may start new ones, on several machines even with different counts of
restarts. So the processes first agree on a new name, a prefix under which the store holds nothing of earlier processes.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import torch.distributed as dist

from maxup_smoothing.certify.distributed import torchrun
from maxup_smoothing.data.runtime.signals import INTERRUPTED, TERMINATED, Stopped

T = TypeVar("T")

_PATIENCE = 1800.0  # seconds within which all processes must have started; torchrun starts them together
_POLL = 0.1  # seconds between two looks into the store; torchrun ends a waiting process if another one dies


class Store(Protocol):
    """The methods of torch.distributed.Store that are used here; they are atomic."""

    def set(self, key: str, value: bytes, /) -> None:
        """Store a value."""

    def get(self, key: str, /) -> bytes:
        """The value of a key; waits until it exists."""

    def add(self, key: str, value: int, /) -> int:
        """Add to a counter, which begins at 0, and return its new value."""

    def check(self, keys: list[str], /) -> bool:
        """Whether all keys exist."""


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from process ``rank`` of ``size``. By default there is one process, and no store."""

    rank: int = 0
    size: int = 1
    store: Store | None = None

    @property
    def first(self) -> bool:
        """Whether this is the first process, which writes the messages and the files that all share."""
        return self.rank == 0

    def of_first(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Call ``make`` in the first process only, and return its result in all processes.

        Args:
            name: A name for the result in the store; each name may be used only once.
            make: The function to call. If it raises, torchrun ends the other processes.
        """
        if self.store is None:
            return make()
        if self.first:
            self.store.set(name, make())
        else:
            while not self.store.check([name]):  # not `wait`, during which Python could not handle signals
                time.sleep(_POLL)
        return self.store.get(name)

    def claimed(self, items: Sequence[T]) -> Iterator[T]:
        """Yield the items that this process is the first to ask for, in order; all processes must pass equal items."""
        if self.store is None:
            yield from items
            return
        while (place := self.store.add("claimed", 1) - 1) < len(items):
            yield items[place]

    def unclaimed(self, total: int) -> int:
        """How many of ``total`` items no process has asked for."""
        return max(0, total - (0 if self.store is None else self.store.add("claimed", 0)))

    def meet(self, name: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until all processes have called this.

        Args:
            name: A name for this meeting; each name may be used only once.
            meanwhile: A function that is called repeatedly while this process waits, and once at the end.
        """
        if self.store is None:
            return
        self.store.add(name, 1)
        while self.store.add(name, 0) < self.size:
            meanwhile()
            time.sleep(_POLL)
        meanwhile()

    def leave(self) -> None:
        """Make the last call of a process: the first one waits for the others, because the store may end with it."""
        if self.store is not None:
            self.store.add("left", 1)
            until = time.monotonic() + 60
            while self.first and self.store.add("left", 0) < self.size and time.monotonic() < until:
                time.sleep(_POLL)


class Tally:
    """Adds up the progress of all processes, so that one of them can show it.

    Args:
        world: The processes of the run.
        show: A function that is called with the new samples and rows of all processes; None if nothing is shown.
        every: Seconds between two exchanges through the store.
    """

    def __init__(self, world: World, show: Callable[[int, int], None] | None, every: float = 1.0) -> None:
        self._world, self._show, self._every = world, show, every
        self._own, self._shown, self._told = [0, 0], [0, 0], time.monotonic()

    def advance(self, samples: int, rows: int) -> None:
        """Count samples and rows of this process."""
        if self._world.store is None and self._show is not None:
            self._show(samples, rows)
            return
        self._own[0] += samples
        self._own[1] += rows
        if time.monotonic() - self._told > self._every:
            self.tell()

    def tell(self) -> None:
        """Add this process's progress to the totals in the store, and show what is new in them."""
        if (store := self._world.store) is None:
            return
        totals = [store.add(name, own) for name, own in zip(("samples", "rows"), self._own, strict=True)]
        self._own, self._told = [0, 0], time.monotonic()
        if self._show is not None:
            new = [total - shown for total, shown in zip(totals, self._shown, strict=True)]
            self._shown = totals
            self._show(new[0], new[1])


@contextmanager
def join() -> Iterator[World]:
    """Enter the world of the processes that torchrun has started, or a world of this process alone.

    Raises:
        ValueError: If the store cannot be reached any more, because its process has ended.
    """
    if not torchrun.shares():
        yield World()
        return
    try:
        store, rank, size = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
        life = agree(cast(Store, store), rank, size)  # the stub has `set` take str; it takes bytes
        world = World(rank, size, cast(Store, dist.PrefixStore(life, store)))  # type: ignore[attr-defined]
        try:
            yield world
        except (KeyboardInterrupt, SystemExit) as stop:
            if rank == 0:
                raise
            status = stop.code if isinstance(stop, SystemExit) else INTERRUPTED
            # No text: the first process alone writes the message.
            raise Stopped(status if isinstance(status, int) else TERMINATED, "") from stop
        world.leave()
    except dist.DistError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the store that the processes share is gone ({reason}). Finished images are on disk; run the same command "
            "to go on."
        ) from error


def agree(store: Store, rank: int, size: int, patience: float = _PATIENCE) -> str:
    """Agree on a name that all processes of this start share, and that no earlier start has used.

    The first process makes the name. Each other process writes a random word under it, and accepts the name when the
    first process has answered with this word. Only a process that runs now can do that.

    Raises:
        ValueError: If some processes do not start within ``patience`` seconds.
    """
    until = time.monotonic() + patience
    word = secrets.token_hex(8)
    if rank == 0:
        life = f"certify/{word}"
        store.set("certify/life", life.encode())
        here = set[int]()
        while len(here) < size - 1:
            for other in set(range(1, size)) - here:
                if store.check([f"{life}/signed/{other}"]):
                    store.set(f"{life}/answer/{other}", store.get(f"{life}/signed/{other}"))
                if store.check([f"{life}/here/{other}"]):
                    here.add(other)
            _wait(until, size - 1 - len(here))
        return life
    while True:
        if store.check(["certify/life"]):
            life = store.get("certify/life").decode()
            store.set(f"{life}/signed/{rank}", word.encode())
            if store.check([f"{life}/answer/{rank}"]) and store.get(f"{life}/answer/{rank}") == word.encode():
                store.set(f"{life}/here/{rank}", b"")
                return life
        _wait(until, 1)


def _wait(until: float, missing: int) -> None:
    if time.monotonic() > until:
        raise ValueError(
            f"{missing} of the processes that torchrun should have started did not come; run the command again."
        )
    time.sleep(_POLL)
