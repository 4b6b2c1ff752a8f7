"""Twenty models that are no function of one image, none of which is certified, and twenty honest ones, none refused."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from preflight_subjects import SHAPE, Nearest, images
from torch import Tensor, nn

from maxup_smoothing.certify.models.adapters import ArrayFunction
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.preflight.independence import require_independent
from maxup_smoothing.certify.smoothing import SmoothedClassifier

SIGMA = 0.25
NOISE = ExactNoise(SIGMA, 5)
Function = Callable[[Nearest, Tensor], Any]


class Of(nn.Module):
    """A model whose pass is a plain function of the nearest-mean classifier and the batch."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.inner, self.function, self.memory = Nearest(), function, dict[str, Any]()

    def forward(self, x_BCHW: Tensor) -> Any:
        return self.function(self, x_BCHW)  # type: ignore[arg-type]


def wrong(model: Any, x: Tensor) -> Tensor:
    """Logits of other classes."""
    return model.inner(x).roll(1, 1)


def early_exit(model: Any, x: Tensor) -> Tensor:
    first = model.inner(x)
    return first if bool((first.softmax(1).amax(1) > 0.9).all()) else wrong(model, x)


def late_exit(model: Any, x: Tensor) -> Tensor:
    first = model.inner(x)
    return first if bool((first.softmax(1).amax(1) > 0.9).any()) else wrong(model, x)


def centred(model: Any, x: Tensor) -> Tensor:
    return model.inner(x - x.mean((0, 2, 3), keepdim=True))


def standardised(model: Any, x: Tensor) -> Tensor:
    return model.inner((x - x.mean()) / x.std())


def quantised(model: Any, x: Tensor) -> Tensor:
    scale = x.abs().amax() / 127
    return model.inner((x / scale).round() * scale)


def capacity(model: Any, x: Tensor) -> Tensor:
    """A mixture of experts: each class has room for a quarter of the batch, and what is too many is dropped."""
    logits = model.inner(x)
    hot = nn.functional.one_hot(logits.argmax(1), 10)
    place = (hot.cumsum(0) * hot).sum(1)
    return torch.where((place > max(1, len(x) // 4))[:, None], logits * 0, logits)


def attention(model: Any, x: Tensor) -> Tensor:
    """Attention over the batch: its first axis was taken for the sequence."""
    flat = x.flatten(1)
    return model.inner((torch.softmax(flat @ flat.T / 100, 1) @ flat).reshape(x.shape))


def by_place(model: Any, x: Tensor) -> Tensor:
    logits = model.inner(x)
    return torch.where(torch.arange(len(x))[:, None] < 3, logits.roll(1, 1), logits)


def last_row(model: Any, x: Tensor) -> Tensor:
    """The last row of a batch is padding, and gets none of the logits of its image."""
    logits = model.inner(x)
    return logits if len(x) == 1 else torch.cat([logits[:-1], torch.zeros(1, 10)])


def odd_batch(model: Any, x: Tensor) -> Tensor:
    return wrong(model, x) if len(x) > 1 else model.inner(x)


def neighbours(model: Any, x: Tensor) -> Tensor:
    """Each row is mixed with the one before: a shift along the wrong axis."""
    return model.inner(0.7 * x + 0.3 * x.roll(1, 0))


def sorted_rows(model: Any, x: Tensor) -> Tensor:
    """Rows are sorted by brightness for speed, and not put back."""
    return model.inner(x[x.mean((1, 2, 3)).argsort()])


def majority(model: Any, x: Tensor) -> Tensor:
    logits = model.inner(x)
    return logits + 0.2 * nn.functional.one_hot(logits.argmax(1).mode().values, 10) * logits.abs().mean()


def cached_by_address(model: Any, x: Tensor) -> Tensor:
    """Answers are kept for a buffer that holds other images by now."""
    key = str((x.data_ptr(), len(x)))
    if key not in model.memory:
        model.memory[key] = model.inner(x)
    return model.memory[key]


def cached_by_size(model: Any, x: Tensor) -> Tensor:
    return model.memory.setdefault(str(len(x)), model.inner(x))


def moving(model: Any, x: Tensor) -> Tensor:
    """A moving average that goes on in evaluation mode."""
    model.memory["mean"] = 0.9 * model.memory.get("mean", 0.0) + 0.1 * x.mean().item()
    return model.inner(x - model.memory["mean"])


def counted(model: Any, x: Tensor) -> Tensor:
    model.memory["calls"] = model.memory.get("calls", 0) + 1
    return model.inner(x) if model.memory["calls"] % 2 else wrong(model, x)


def dropping(model: Any, x: Tensor) -> Tensor:
    return model.inner(nn.functional.dropout(x, 0.3, training=True))


def top_of_batch(model: Any, x: Tensor) -> Tensor:
    """Only the surest half of the batch is answered."""
    logits = model.inner(x)
    sure = logits.amax(1)
    return torch.where((sure < sure.median())[:, None] & (len(x) > 1), logits.roll(1, 1), logits)


UNFAITHFUL = [
    early_exit, late_exit, centred, standardised, quantised, capacity, attention, by_place, last_row, odd_batch,
    neighbours, sorted_rows, majority, cached_by_address, cached_by_size, moving, counted, dropping, top_of_batch,
]  # fmt: skip


@pytest.mark.parametrize("function", UNFAITHFUL)
@pytest.mark.parametrize("batch_size", [16, 64])
def test_what_is_no_function_of_one_image_is_refused(function: Function, batch_size: int) -> None:
    f = BaseClassifier(Of(function).eval(), 10, batch_size=batch_size)
    f.prepare(images()[0][:16] / 255)
    with pytest.raises(ValueError, match="certificate would be void"):
        require_independent(f, images()[0][:64], NOISE)


def test_the_library_class_refuses_what_the_command_refuses() -> None:
    with pytest.raises(ValueError, match="other images of its batch"):
        SmoothedClassifier(Of(early_exit).eval(), 10, SIGMA).certify(images()[0][:4], n=100)


class Complex(nn.Module):
    """A filter by complex weights behind an ordinary layer."""

    def __init__(self) -> None:
        super().__init__()
        phase = torch.arange(28)[:, None] * 2 / 28 + torch.arange(15) * 3 / 28
        self.weight, self.scale = nn.Parameter(torch.exp(-2j * torch.pi * phase)), nn.Parameter(torch.ones(()))
        self.inner = Nearest()

    def forward(self, x: Tensor) -> Tensor:
        moved = torch.fft.irfft2(torch.fft.rfft2(x * self.scale) * self.weight, s=(28, 28))
        logits: Tensor = self.inner(moved.roll((-2, -3), (2, 3)))
        return logits


class Cast(nn.Module):
    """A body of another precision, as mixed precision by hand has it."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.body, self.dtype = Nearest().to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x.to(self.dtype)).float()
        return logits


class View(nn.Module):
    """A convolution flattened with view, which takes contiguous memory alone, behind batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.last = nn.Conv2d(1, 3, 5), nn.BatchNorm2d(3), nn.Linear(3 * 24 * 24, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.norm(self.one(x.float())).view(-1, 3 * 24 * 24))
        return logits


class Spread(nn.Module):
    """A sparse matrix, further state that is no tensor, and weights made by other weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(784).to_sparse())
        self.inner = Nearest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nn.utils.weight_norm(self.inner.linear)

    def get_extra_state(self) -> Any:
        return {"version": 3, "dtype": torch.float32}

    def set_extra_state(self, state: Any) -> None: ...

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(torch.sparse.mm(self.get_buffer("matrix"), x.flatten(1).T).T.reshape(x.shape))
        return logits


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: nn.Module = torch.jit.trace(Nearest().eval(), torch.zeros(2, *SHAPE))
    return module.eval()


def program() -> nn.Module:
    batch = torch.export.Dim("batch", min=1, max=512)
    exported = torch.export.export(
        Nearest().eval().half(), (torch.rand(4, *SHAPE).half(),), dynamic_shapes=({0: batch},)
    )
    module = exported.module()
    for one in module.modules():
        one.training = False
    return module


def clamped_in_place(model: Any, x: Tensor) -> Tensor:
    return model.inner(x.clamp_(0, 1))


def signs(model: Any, x: Tensor) -> Tensor:
    """A network of two values inside, which rounding may turn."""
    return model.inner(((x - 0.3).sign() + 1) / 2)


def masked(model: Any, x: Tensor) -> Tensor:
    """Two classes are switched off."""
    logits = model.inner(x).clone()
    logits[:, 8:] = -torch.inf
    return logits


def by_row(model: Any, x: Tensor) -> Tensor:
    scale = x.abs().amax((1, 2, 3), keepdim=True) / 127
    return model.inner((x / scale).round() * scale)


def exits_by_row(model: Any, x: Tensor) -> Tensor:
    first = model.inner(x)
    return torch.where(first.softmax(1).amax(1, keepdim=True) > 0.9, first, wrong(model, x))


def grid_cached(model: Any, x: Tensor) -> Tensor:
    """What is kept between calls does not depend on the images."""
    return model.inner(x + model.memory.setdefault("offset", torch.linspace(0, 0.1, 28)))


def autocast(model: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits: Tensor = model.inner(x)
    return logits.float()


def row_norm(model: Any, x: Tensor) -> Tensor:
    return model.inner(nn.functional.layer_norm(x, x.shape[1:]))


def with_features(model: Any, x: Tensor) -> Any:
    return {"logits": model.inner(x), "features": x.flatten(1)}


HONEST: dict[str, Callable[[], Any]] = {
    "float32": Nearest,
    "float16": lambda: Nearest().half(),
    "bfloat16": lambda: Nearest().bfloat16(),
    "float64": lambda: Nearest().double(),
    "complex": Complex,
    "mixed": lambda: Cast(torch.float16),
    "double inside": lambda: Cast(torch.float64),
    "view": View,
    "sparse": Spread,
    "TorchScript": scripted,
    "a program of 16 bits": program,
    "in place": lambda: Of(clamped_in_place),
    "signs": lambda: Of(signs),
    "masked": lambda: Of(masked),
    "quantised by row": lambda: Of(by_row),
    "early exit by row": lambda: Of(exits_by_row),
    "a cache": lambda: Of(grid_cached),
    "autocast": lambda: Of(autocast),
    "layer norm": lambda: Of(row_norm),
    "a dict": lambda: Of(with_features),
    "a function of tensors": lambda: lambda x: Nearest()(x),
    "classes": lambda: lambda x: Nearest()(torch.as_tensor(x)).argmax(1).numpy(),
}


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("batch_size", [1, 16, 64])
def test_an_honest_model_is_certified_as_it_is(name: str, batch_size: int) -> None:
    model = HONEST[name]()
    network = model.eval() if isinstance(model, nn.Module) and name != "a program of 16 bits" else model
    network = network if isinstance(network, nn.Module) else ArrayFunction(network, 10)
    f = BaseClassifier(network, 10, batch_size=batch_size)
    x_NCHW = (
        images()[0][:64] / 255 + 0.25 * torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0))
    ).clone()
    f.prepare(x_NCHW[:16])
    require_independent(f, images()[0][:64], NOISE)
    own = next((p.dtype for p in network.parameters() if name in ("float16", "bfloat16", "float64")), torch.float32)
    own = torch.float16 if "program" in name else own
    with torch.inference_mode():
        found_BK = torch.cat([f.logits(part.clone()) for part in x_NCHW.split(batch_size)])
        answer = network(x_NCHW.to(own, copy=True))
    expected_BK = answer["logits"] if isinstance(answer, dict) else answer
    assert int(f.differing(expected_BK, found_BK).sum()) <= (3 if name == "signs" else 0)


def test_a_cast_is_asked_for_and_never_assumed() -> None:
    model = Nearest().half().eval()
    assert BaseClassifier(model, 10).describe()["dtype"] == "given"
    assert BaseClassifier(model, 10).describe()["weights"] == ["float16"]
    assert BaseClassifier(model, 10, dtype="float32").describe()["dtype"] == "float32"
    with pytest.raises(ValueError, match="its weights are complex; leave --dtype out"):
        BaseClassifier(Complex().eval(), 10, dtype="float32")
    with pytest.raises(ValueError, match="a model that casts by itself does not take: leave --dtype"):
        BaseClassifier(Cast(torch.float32).eval(), 10, dtype="bfloat16", image_shape=SHAPE)


def test_a_form_that_is_another_function_is_left_and_said() -> None:
    f = BaseClassifier(View().eval(), 10, batch_size=16, image_shape=SHAPE)
    assert f.describe()["layout"] == "contiguous"
    assert any("channels_last: the model: RuntimeError: view size" in text for text in f.fallbacks)
    assert "not folded: cannot be run in float64" in f.folding


def test_later_changes_of_a_model_do_not_reach_its_copy() -> None:
    model = Nearest().eval()
    f = BaseClassifier(model, 10, batch_size=4, image_shape=SHAPE)
    x_BCHW = images()[0][:4] / 255
    before_BK = f.logits(x_BCHW)
    with torch.no_grad():
        model.linear.weight.zero_()
    assert torch.equal(f.logits(x_BCHW), before_BK)


class Denoised(nn.Module):
    """A denoiser with noise of its own: for each row, for the batch, or the same in every call."""

    def __init__(self, draws: str) -> None:
        super().__init__()
        self.inner, self.draws = Nearest(), draws

    def forward(self, x: Tensor) -> Tensor:
        if self.draws == "seeded":
            torch.manual_seed(0)
        rows = {"one a batch": 1, "one for two": (len(x) + 1) // 2}.get(self.draws, len(x))
        noise = torch.randn(rows, *x.shape[1:]).repeat_interleave(-(-len(x) // rows), 0)[: len(x)]
        logits: Tensor = self.inner(x + 0.3 * noise)
        return logits


def test_draws_of_its_own_for_every_row_are_taken_where_that_is_said() -> None:
    with pytest.raises(ValueError, match=r"from call to call.*--randomized"):
        SmoothedClassifier(Denoised("rows").eval(), 10, SIGMA, seed=0).certify(images()[0][:2], n=100)
    smoothed = SmoothedClassifier(Denoised("rows").eval(), 10, SIGMA, seed=0, randomized=True)
    found = smoothed.certify(images()[0][:2], n=1000)
    assert all(one.radius > 0 for one in found)
    assert smoothed.base.describe()["randomized"] is True
    assert smoothed.base.fingerprint(images()[0]) == {}


@pytest.mark.parametrize("draws", ["one a batch", "one for two", "seeded"])
def test_draws_that_images_of_a_batch_share_are_refused(draws: str) -> None:
    smoothed = SmoothedClassifier(Denoised(draws).eval(), 10, SIGMA, batch_size=64, randomized=True)
    with pytest.raises(ValueError, match=r"are shared by images of a batch|other images of its batch"):
        smoothed.certify(images()[0][:2], n=100)


@pytest.mark.parametrize("attempt", range(5))
def test_independent_draws_raise_no_false_alarm(attempt: int) -> None:
    torch.manual_seed(attempt)
    f = BaseClassifier(Denoised("rows").eval(), 10, batch_size=64, randomized=True)
    require_independent(f, images()[0][:8], ExactNoise(SIGMA, attempt))


def test_minus_infinity_is_a_logit_and_plus_infinity_is_none() -> None:
    rows = torch.tensor([[1.0, -torch.inf], [torch.nan, 0.0], [torch.inf, 0.0], [-torch.inf, -torch.inf]])
    f = BaseClassifier(ArrayFunction(lambda x: rows.numpy()[: len(x)], 2), 2, batch_size=4)
    assert f.classify(torch.zeros(4, 1, 2, 2)).tolist() == [0, 2, 2, 2]
    assert np.isneginf(rows[0, 1].item())
