"""A model on a machine whose memory holds few rows, and the rows that it certifies."""

from typing import Any

import torch
from oracles import Pixel
from torch import Tensor, nn

from maxup_smoothing.certify.engine.scheduler import certify_inputs
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.statistics.procedure import Sampling


class Small(nn.Module):
    """Pixel on a machine that has memory for so many rows."""

    def __init__(self, most: int, error: type[BaseException] = torch.OutOfMemoryError, after: int = 0) -> None:
        super().__init__()
        self.inner, self.most, self.error, self.after, self.seen = Pixel(), most, error, after, [0]
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Small":
        return self

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.seen.append(len(x_BCHW))
        if len(self.seen) > self.after and len(x_BCHW) > self.most:
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return self.inner(x_BCHW)


IMAGES = torch.randint(0, 256, (5, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def votes(classifier: BaseClassifier, **settings: Any) -> list[Any]:
    sampling = Sampling(**{"sigma": 0.5, "n0": 20, "n": 300, "alpha": 0.01, **settings})
    drawn: list[int] = []
    found = certify_inputs(classifier, ExactNoise(0.5, 1), enumerate(IMAGES), sampling, drawn.append)
    rows = [(idx, proved.predict, proved.radius, proved.counts.tolist(), proved.looks) for idx, proved, _ in found]
    assert sum(drawn) == sum(20 + row[4][-1].n for row in rows)  # what is drawn again is counted once
    return rows
