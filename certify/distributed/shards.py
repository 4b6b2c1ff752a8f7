"""``--shard i/N``: divides the images among independent jobs, which do not communicate."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MOST = 1_000_000  # largest number of shards


@dataclass(frozen=True)
class Shard:
    """Every ``count``-th image of a protocol, from image ``number`` (0, 1, …) on; this spreads hard images evenly."""

    number: int
    count: int

    def __str__(self) -> str:
        """The shard as a user writes it, such as 0/3."""
        return f"{self.number}/{self.count}"

    def of(self, indices: Sequence[int]) -> list[int]:
        """This shard's part of a protocol's images.

        Raises:
            ValueError: If the part is empty.
        """
        if len(indices) <= self.number:
            raise ValueError(f"--shard {self} has no image: there are {len(indices)}; use fewer shards.")
        return list(indices[self.number :: self.count])

    def described(self, protocol: Mapping[str, Any]) -> dict[str, Any]:
        """This shard's section ``protocol`` of a manifest, from that of the whole; ``indices`` is start:stop:step."""
        start, stop, step = map(int, protocol["indices"].split(":"))
        slice_text = f"{start + self.number * step}:{stop}:{self.count * step}"
        return {**protocol, "indices": slice_text, "shard": str(self)}

    def file_name(self, name: str) -> str:
        """The file name of this shard's table, if that of the whole table is ``name``."""
        path = Path(name)
        return f"{path.stem}.shard-{self.number}-of-{self.count}{path.suffix}"


def parse(text: str | None) -> Shard | None:
    """Parse the value of ``--shard``; None stays None.

    Raises:
        ValueError: If it is not i/N with 0 <= i < N, N at most 1,000,000.
    """
    if text is None:
        return None
    match = re.fullmatch("([0-9]{1,7})/([0-9]{1,7})", text)
    if match is None or not int(match[1]) < int(match[2]) <= _MOST:
        raise ValueError(f"--shard must be i/N with i from 0 to N - 1, such as 0/3, 1/3 and 2/3, got {text!r}.")
    return Shard(int(match[1]), int(match[2]))


def require_same_everywhere(seed: int | None, batch_size: int | None) -> None:
    """Require the options that each shard would otherwise choose for itself; their tables could not be merged.

    Raises:
        ValueError: If an option is missing; the message names it.
    """
    if missing := [name for name, value in (("--seed", seed), ("--batch-size", batch_size)) if value is None]:
        raise ValueError(
            f"--shard needs {' and '.join(missing)}, the same for all shards, or their tables could not be merged; "
            "`certify plan MODEL` prints the fastest batch size."
        )


def whole(protocols: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The protocol of which the given tables are shards.

    Args:
        protocols: The sections ``protocol`` of the tables' manifests.

    Returns:
        The section ``protocol`` of the whole; None if the tables are not different shards of one protocol.
    """
    found = [_whole(protocol) for protocol in protocols]
    shards = {str(protocol.get("shard")) for protocol in protocols}
    if None in found or len(shards) < len(found) or any(one != found[0] for one in found) or found[0] is None:
        return None
    return {name: value for name, value in found[0].items() if name != "shards"}


def asked(protocols: Sequence[Mapping[str, Any]], images: Sequence[int | None]) -> int | None:
    """The number of images that all shards together were asked for, counted from the protocol's first image.

    Args:
        protocols: The sections ``protocol`` of different shards of one protocol.
        images: The number of images that each shard was asked for.

    Returns:
        The sum of these numbers; None if a shard is missing, or the shards do not divide the same images.
    """
    found = [parse(str(protocol.get("shard"))) for protocol in protocols]
    total = sum(number or 0 for number in images)
    for shard, number in zip(found, images, strict=True):
        assert shard is not None
        if shard.count != len(found) or number != len(range(shard.number, total, shard.count)):
            return None
    return total


def _whole(protocol: Mapping[str, Any]) -> dict[str, Any] | None:
    """The whole protocol according to one shard, with the number of shards as ``shards``; None if it is not a shard."""
    try:
        shard = parse(str(protocol.get("shard")))
        start, stop, step = map(int, str(protocol.get("indices")).split(":"))
    except ValueError:
        return None
    assert shard is not None
    step //= shard.count
    indices = f"{start - shard.number * step}:{stop}:{step}"
    return {**{name: protocol[name] for name in protocol if name != "shard"}, "indices": indices, "shards": shard.count}
