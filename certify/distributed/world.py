"""The processes that torchrun starts, as far as certifying needs them: who I am, and a shared store.

Images are independent, so there is nothing to reduce and no process group is made, of gloo or of nccl: the store of
torchrun's rendezvous is enough. An image goes to whichever process asks first, by a counter in that store, so a slow
process takes fewer and holds nobody up.

The store may outlive the processes: torchrun starts new ones, on several machines even with different counts of
restarts. So the processes agree on a name for their life first, under which nothing of an earlier one is found.
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

_PATIENCE = 1800.0  # seconds until all must have come; torchrun starts them together
_POLL = 0.1  # seconds between two looks; whoever waits is ended by torchrun if what it waits for dies


class Store(Protocol):
    """What is used of torch.distributed.Store, whose methods are atomic."""

    def set(self, key: str, value: bytes, /) -> None:
        """Store a value."""

    def get(self, key: str, /) -> bytes:
        """The value, when it is there."""

    def add(self, key: str, value: int, /) -> int:
        """Add to a counter, which begins at 0; its new value."""

    def check(self, keys: list[str], /) -> bool:
        """Whether the keys are there."""


@dataclass(frozen=True)
class World:
    """The processes of a run: this is number ``rank`` of ``size``. By default there is one, and no store."""

    rank: int = 0
    size: int = 1
    store: Store | None = None

    @property
    def first(self) -> bool:
        """Whether this process talks, and writes what all share."""
        return self.rank == 0

    def of_first(self, name: str, make: Callable[[], bytes]) -> bytes:
        """What ``make`` returns in the first process, which alone calls it; in all of them.

        Args:
            name: Each only once.
            make: May raise; torchrun then ends the others.
        """
        if self.store is None:
            return make()
        if self.first:
            self.store.set(name, make())
        else:
            while not self.store.check([name]):  # `wait` would keep Python from signals
                time.sleep(_POLL)
        return self.store.get(name)

    def claimed(self, items: Sequence[T]) -> Iterator[T]:
        """Those of the items, the same ones in all processes, that this process is the first to ask for, in order."""
        if self.store is None:
            yield from items
            return
        while (place := self.store.add("claimed", 1) - 1) < len(items):
            yield items[place]

    def unclaimed(self, total: int) -> int:
        """How many of so many items nobody has asked for."""
        return max(0, total - (0 if self.store is None else self.store.add("claimed", 0)))

    def meet(self, name: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Return when all processes have come here.

        Args:
            name: Each only once.
            meanwhile: Called now and then.
        """
        if self.store is None:
            return
        self.store.add(name, 1)
        while self.store.add(name, 0) < self.size:
            meanwhile()
            time.sleep(_POLL)
        meanwhile()

    def leave(self) -> None:
        """The last call of a process: who holds the store must be the last to end."""
        if self.store is not None:
            self.store.add("left", 1)
            until = time.monotonic() + 60
            while self.first and self.store.add("left", 0) < self.size and time.monotonic() < until:
                time.sleep(_POLL)


class Tally:
    """Progress of all processes, shown by the first.

    Args:
        world: The processes.
        show: Called with the samples and rows since the last call, of all of them; None where nothing is shown.
        every: Seconds between two looks into the store.
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
        """Tell the others, and show what they have told."""
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
    """The world that torchrun has started, or a world of this process alone.

    Raises:
        ValueError: If the store is gone, since its process is.
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
            raise Stopped(status if isinstance(status, int) else TERMINATED, "") from stop  # one of all talks
        world.leave()
    except dist.DistError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the store that the processes share is gone ({reason}). What was finished is on disk; the same command "
            "goes on."
        ) from error


def agree(store: Store, rank: int, size: int, patience: float = _PATIENCE) -> str:
    """A name that the processes of this life share, and no process of an earlier one.

    The first process makes the name. Each other one signs under it with a word of its own, and goes on when the first
    one has answered with that very word, which only one that lives can.

    Raises:
        ValueError: If some do not come.
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
