"""Several networks as one: the mean of their logits or of their probabilities.

The certificate is of the smoothed ensemble, as it would be of any other network. Nothing else changes.

References:
    Horváth, Müller, Fischer, Vechev (2022), "Boosting randomized smoothing with variance reduced classifiers", for the
    mean of logits. Liu et al. (2020), "Enhancing certified robustness via smoothed weighted ensembling".
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

#: What is averaged; the first is the default.
MEANS = ("logits", "probabilities")


class Ensemble(nn.Module):
    """The mean of several networks with the same classes, in evaluation mode.

    Args:
        members: From (B, C, H, W) to logits (B, K).
        mean: One of ``MEANS``. With ``probabilities`` the outputs are logarithms of the mean softmax.
    """

    def __init__(self, members: Sequence[nn.Module], mean: str = MEANS[0]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.mean = mean
        self.train(any(member.training for member in members))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, (B, K), or logarithms of probabilities."""
        logits_MBK = torch.stack([member(x_BCHW) for member in self.members])
        if self.mean == "logits":
            return logits_MBK.mean(0)
        # In the logarithm a class that all members find improbable stays a finite number.
        return logits_MBK.float().log_softmax(-1).logsumexp(0) - math.log(len(self.members))


def members_of(name: str) -> tuple[str, list[str]]:
    """What is averaged, and the names of the members, of ``[probabilities:]A+B+…``; one member for any other model.

    A plus sign that is part of an existing path separates nothing.

    Raises:
        ValueError: If a name is empty.
    """
    mean, _, rest = name.partition(":")
    if mean not in MEANS:
        mean, rest = MEANS[0], name
    parts, found = rest.split("+"), list[str]()
    while parts:
        longest = next((end for end in range(len(parts), 1, -1) if Path("+".join(parts[:end])).exists()), 1)
        found.append("+".join(parts[:longest]))
        parts = parts[longest:]
    if len(found) == 1 and rest == name:
        return mean, found
    if len(found) == 1 or not all(found):
        raise ValueError(f"{name}: an ensemble is A+B or probabilities:A+B, with the name of a model on both sides.")
    return mean, found
