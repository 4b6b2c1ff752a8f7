"""Functions that change, tremble, overflow or compute otherwise than the network that was given."""

from dataclasses import replace

import torch
from preflight_subjects import Nearest, found, subject
from torch import Tensor, nn

from maxup_smoothing.certify.preflight.checks import QUICK, examine
from maxup_smoothing.certify.preflight.finding import ERROR, FACT, WARNING, lines


class Counting(Nearest):
    """A buffer that every forward pass changes, without any effect so far."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.get_buffer("passes").add_(1)
        return super().forward(x_BCHW)


class Remembering(Nearest):
    """What it remembers is no buffer, and is felt after some passes."""

    passes = 0

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(x_BCHW).roll(self.passes // 6, dims=1)


class Trembling(Nearest):
    """As atomic additions on a GPU are: other last bits at every call."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK = super().forward(x_BCHW)
        return logits_BK * (1 + 1e-6 * torch.randn(len(logits_BK), 1))


def test_a_model_that_changes_is_an_error_and_one_that_trembles_is_not() -> None:
    assert "state" in found(subject(Counting()), ERROR)
    assert "repetition" in found(subject(Remembering()), ERROR)
    trembling = examine(subject(Trembling()), QUICK)
    assert lines(trembling, ERROR) == []
    [repeated] = [finding for finding in trembling if finding.check == "repetition"]
    assert "differ by up to" in repeated.seen


def test_logits_that_are_not_finite_are_warned_of_and_refused_if_all_are() -> None:
    class Sometimes(Nearest):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            return torch.where(x_BCHW[:, 0, :1, 0] > 0.5, torch.nan, super().forward(x_BCHW))

    class Never(Nearest):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            return super().forward(x_BCHW) * torch.inf

    assert "lowers radii" in found(subject(Sometimes()), WARNING)["finite logits"].meaning
    assert "nothing can be certified" in found(subject(Never()), ERROR)["finite logits"].meaning


def test_another_arithmetic_that_gives_other_classes_is_warned_of() -> None:
    class Fine(Nearest):
        """Differences far below the resolution of bfloat16."""

        def forward(self, x_BCHW: Tensor) -> Tensor:
            return (super().forward(x_BCHW) + 1e4).contiguous()

    warned = found(subject(Fine(), dtype="bfloat16"), WARNING)
    assert "in bfloat16, and the network as it was given differ" in warned["arithmetic"].seen
    assert "certify transfer" in warned["arithmetic"].fix
    assert "arithmetic" in found(subject(Nearest(), dtype="bfloat16"), FACT)


def test_a_folded_network_is_compared_with_the_one_that_was_given() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 26 * 26, 10)).eval()
    one = subject(network)
    assert one.classifier.folding == "1 batch norms folded"
    seen = found(one, FACT)["arithmetic"].seen
    assert (
        "f, folded, channels last, and the network as it was given differ in the class of 0 of 128 noisy images" in seen
    )
    # 1 - 0.05 ** (1 / 128) = 0.02313, rounded up.
    assert "less than 2.32%" in seen
    other = replace(one, model=nn.Sequential(network[0], network[1], nn.Flatten(), nn.Linear(4 * 26 * 26, 10)).eval())
    assert "by more than rounding" in found(other, ERROR)["arithmetic"].seen
