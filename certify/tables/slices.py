"""Numbers of images as start:stop:step, in manifests."""

from collections.abc import Sequence


def text(indices: Sequence[int]) -> str:
    """Sorted numbers as start:stop:step, as few as a walk from the first finds, separated by commas."""
    slices: list[range] = []
    for index in indices:
        last = slices[-1] if slices else None
        if last is not None and (len(last) == 1 or index == last[-1] + last.step):
            step = index - last[-1]
            slices[-1] = range(last.start, index + 1, step)
        else:
            slices.append(range(index, index + 1))
    return ",".join(f"{part.start}:{part.stop}:{part.step}" for part in slices)
