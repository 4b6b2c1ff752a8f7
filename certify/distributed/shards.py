"""``--shard i/N``: a part of the images, for jobs that cannot talk to each other."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MOST = 1_000_000


@dataclass(frozen=True)
class Shard:
    """Every ``count``-th image of a protocol, from the ``number``-th on: hard images are spread over all shards."""

    number: int
    count: int

    def __str__(self) -> str:
        """As a user writes it."""
        return f"{self.number}/{self.count}"

    def of(self, indices: Sequence[int]) -> list[int]:
        """This shard's part of a protocol's images.

        Raises:
            ValueError: If there is none.
        """
        if len(indices) <= self.number:
            raise ValueError(f"--shard {self} has no image: there are {len(indices)}; use fewer shards.")
        return list(indices[self.number :: self.count])

    def described(self, protocol: Mapping[str, Any]) -> dict[str, Any]:
        """A manifest's section ``protocol``, whose ``indices`` are start:stop:step, for this shard alone."""
        start, stop, step = map(int, protocol["indices"].split(":"))
        slice_text = f"{start + self.number * step}:{stop}:{self.count * step}"
        return {**protocol, "indices": slice_text, "shard": str(self)}

    def file_name(self, name: str) -> str:
        """The table of this shard where the whole would be ``name``."""
        path = Path(name)
        return f"{path.stem}.shard-{self.number}-of-{self.count}{path.suffix}"


def parse(text: str | None) -> Shard | None:
    """The shard that a user names, None for none.

    Raises:
        ValueError: If it is not i/N with 0 <= i < N.
    """
    if text is None:
        return None
    match = re.fullmatch("([0-9]{1,7})/([0-9]{1,7})", text)
    if match is None or not int(match[1]) < int(match[2]) <= _MOST:
        raise ValueError(f"--shard must be i/N with i from 0 to N - 1, such as 0/3, 1/3 and 2/3, got {text!r}.")
    return Shard(int(match[1]), int(match[2]))


def require_same_everywhere(seed: int | None, batch_size: int | None) -> None:
    """Refuse what each shard would choose for itself: their tables could not be merged.

    Raises:
        ValueError: With the options that are missing.
    """
    if missing := [name for name, value in (("--seed", seed), ("--batch-size", batch_size)) if value is None]:
        raise ValueError(
            f"--shard needs {' and '.join(missing)}, the same for all shards, or their tables could not be merged; "
            "`certify plan MODEL` prints the fastest batch size."
        )


def whole(protocols: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The protocol that shards are of.

    Args:
        protocols: Sections ``protocol`` of manifests.

    Returns:
        Its section; None if these are not shards of one protocol, each another one.
    """
    found = [_whole(protocol) for protocol in protocols]
    shards = {str(protocol.get("shard")) for protocol in protocols}
    if None in found or len(shards) < len(found) or any(one != found[0] for one in found) or found[0] is None:
        return None
    return {name: value for name, value in found[0].items() if name != "shards"}


def asked(protocols: Sequence[Mapping[str, Any]], images: Sequence[object]) -> int | None:
    """Of how many images of the protocol shards are, where all were asked for the first so many of it.

    Args:
        protocols: Sections of shards of one protocol, each another one.
        images: How many images each was asked for.

    Returns:
        Their sum; None if a shard is missing, or they are not of the same images.
    """
    found = [parse(str(protocol.get("shard"))) for protocol in protocols]
    total = sum(number for number in images if isinstance(number, int))
    for shard, number in zip(found, images, strict=True):
        assert shard is not None
        if shard.count != len(found) or number != len(range(shard.number, total, shard.count)):
            return None
    return total


def _whole(protocol: Mapping[str, Any]) -> dict[str, Any] | None:
    """What one shard says of the protocol, and of how many shards there are."""
    try:
        shard = parse(str(protocol.get("shard")))
        start, stop, step = map(int, str(protocol.get("indices")).split(":"))
    except ValueError:
        return None
    assert shard is not None
    step //= shard.count
    indices = f"{start - shard.number * step}:{stop}:{step}"
    return {**{name: protocol[name] for name in protocol if name != "shard"}, "indices": indices, "shards": shard.count}
