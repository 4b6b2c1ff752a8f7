"""The base classifier f as it is certified: a frozen network with fixed weights, arithmetic and batch size."""

# Shapes: B rows of a batch, K classes; C channels, H height, W width.

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maxup_smoothing.certify.models.acceleration import compiled, fold_batch_norm
from maxup_smoothing.certify.models.adapters import ArrayFunction
from maxup_smoothing.certify.models.contents import (
    FLOAT32,
    GIVEN,
    beside,
    copied,
    fractional_dtypes,
    not_hashed,
    own_arithmetic,
    require_initialised,
    weights_hash,
)
from maxup_smoothing.certify.models.memory import advice, in_parts
from maxup_smoothing.certify.models.outputs import input_dtypes
from maxup_smoothing.data.runtime.memory import OutOfMemory, is_out_of_memory
from maxup_smoothing.data.runtime.user_code import ModelError, logits_of, user_code

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Mark:
    """A record of f at one time, with which a later change is found.

    Attributes:
        state: SHA-256 of the weights and buffers; None for a model without any.
        x_BCHW: The rows that f was shown.
        logits_BK: Its logits for them; None for a randomised f.
    """

    state: str | None
    x_BCHW: Tensor
    logits_BK: Tensor | None


class BaseClassifier:
    """A frozen network from image batches to classes.

    Batches always have ``batch_size`` rows; the engine pads the last one. A kernel may round differently at another
    size, and f would then be another function.

    A new classifier runs the model exactly as given: in its own dtype and memory layout, with nothing folded.
    ``prepare`` then looks for a faster form of the same function.

    Args:
        model: The network, in evaluation mode. It maps (B, C, H, W) images in [0, 1] plus noise to (B, K) logits; for
            other outputs see ``logits_of``. If it can be copied, the copy runs, and later changes do not reach it.
        num_classes: Number of logits K.
        device: The device on which f runs.
        dtype: None keeps the model's own arithmetic. "float32", "bfloat16" or "float16" casts all weights; if they are
            of another dtype, the cast model is another function.
        batch_size: Number of rows of every forward pass.
        image_shape: Shape (C, H, W) of one image. If it is given, ``prepare`` is called.
        examples: Noisy images for ``prepare``, float32 (N, C, H, W); by default random numbers around grey.
        compile: Whether to use torch.compile; see ``models.acceleration``. It needs ``image_shape``, and takes seconds.
        smallest_batch: Smallest number of rows that the model accepts.
        randomized: Whether the model draws new random numbers of its own for every row; see ``preflight.independence``.

    Attributes:
        dtype_name: "float32", "bfloat16", "float16", or "given" where the model's weights are of another dtype.
        layout: Memory layout of f's input.
        folding: How many batch norms are folded into convolutions, or why none is; see ``certify.models.acceleration``.
        fallbacks: Faster forms that are not used, each with the reason; also a note if the model cannot be copied.
        compiled: None if f runs compiled, else the reason why it does not.
        micro_batch: Number of rows of one forward pass: fewer than a batch after memory ran out; see ``models.memory``.
        on_smaller: A function that is called whenever ``micro_batch`` has become smaller.
        workers: Classifiers that may run at the same time, on the same weights; this one is the first.

    Raises:
        ValueError: If a module is in training mode, or ``dtype``, ``batch_size`` or ``compile`` does not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        device: torch.device | str = "cpu",
        dtype: str | None = None,
        batch_size: int = 256,
        image_shape: Sequence[int] | None = None,
        examples: Tensor | None = None,
        compile: bool = False,
        smallest_batch: int = 1,
        randomized: bool = False,
    ) -> None:
        if dtype not in (None, GIVEN, *DTYPES):
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
        if isinstance(model, ArrayFunction) and (dtype not in (None, GIVEN, FLOAT32) or compile):
            raise ValueError("a function of arrays has its own arithmetic: leave dtype and compile out.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        require_evaluation_mode(model)
        require_initialised(model)
        own = own_arithmetic(model)
        self.sha256 = weights_hash(model) if model.state_dict() or list(model.buffers()) else None
        self._not_hashed = not_hashed(model)
        self.num_classes, self.device, self.batch_size = num_classes, torch.device(device), batch_size
        self.micro_batch, self.smallest_batch, self.randomized = batch_size, smallest_batch, randomized
        self.on_smaller: Callable[[], None] = lambda: None
        self.workers = [self]
        self.dtype_name = own if dtype in (None, GIVEN) else dtype
        self.layout, self.folding, self.fallbacks = torch.contiguous_format, "not folded: not asked for", list[str]()
        self._copies_input = False
        self._given = self._placed(model, cast=self.dtype_name != own)
        self._model, self._cast = self._given, self.dtype_name != own
        self._logits: Callable[[Tensor], Tensor] = self._cast_and_run
        # Input dtypes to try, in this order: images are float32, but a 16-bit model may need its own dtype.
        self._inputs = input_dtypes(model) if self.dtype_name == GIVEN else [DTYPES[self.dtype_name]]
        self.compiled: str | None = "not asked for"
        if compile and image_shape is None:
            raise ValueError("to compile a model its image_shape must be given.")
        if image_shape is not None:
            self.prepare(self._probe(16, image_shape) if examples is None else examples)
            if compile:
                self.compile(image_shape)

    @property
    def arithmetic(self) -> str:
        """The dtype of the weights, in words for users."""
        kinds = sorted(str(kind).removeprefix("torch.") for kind in fractional_dtypes(self._given))
        return f"{' and '.join(kinds)} as given" if self.dtype_name == GIVEN else self.dtype_name

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the network's input."""
        return self._inputs[0]

    def _placed(self, model: nn.Module, cast: bool) -> nn.Module:
        """A copy of the model on the device, cast if asked for; the model itself if it cannot be copied."""
        frozen, reason = copied(model)
        if cast:
            complex_weights = any(kind.is_complex for kind in fractional_dtypes(model))
            if frozen is None or complex_weights:
                why = "its weights are complex" if complex_weights else f"it cannot be copied ({reason})"
                raise ValueError(f"the model cannot be cast to {self.dtype_name}: {why}; leave --dtype out.")
            frozen = frozen.to(DTYPES[self.dtype_name])
        if frozen is None:
            self.fallbacks.append(f"the model itself runs, since it cannot be copied ({reason})")
            return self._moved(model)
        for parameter in frozen.parameters():
            if parameter.is_leaf:
                parameter.requires_grad_(False)
        return self._moved(frozen)

    def _moved(self, model: nn.Module) -> nn.Module:
        """The model on the device; a model that is already there is not touched."""
        there = torch.empty(0, device=self.device).device
        tensors = (*model.parameters(), *model.buffers())
        return model if all(tensor.device == there for tensor in tensors) else model.to(self.device)

    def prepare(self, examples_NCHW: Tensor, *, fold: bool = True) -> None:
        """Choose the fastest form of the network that gives the same logits as the given model.

        It tries, in this order: folded batch norms with a channels-last layout, folding alone, channels last alone. A
        form whose logits on the examples differ by more than rounding is not used; ``fallbacks`` records it.

        Args:
            examples_NCHW: Noisy images, as f will get them: float32, (N, C, H, W), at least one.
            fold: Whether to try folding.

        Raises:
            ValueError: If the model fails on the examples; the message says what it raised and where.
        """
        fixed = self.randomized or isinstance(self._model, ArrayFunction) or self._model is not self._given
        given = self.as_given(max(self.smallest_batch, min(1 if fixed else 16, self.batch_size)))
        rows = torch.arange(given.batch_size) % len(examples_NCHW)
        x_BCHW = examples_NCHW.to(self.device)[rows].contiguous()
        kept_BCHW = x_BCHW.clone()
        try:
            expected_BK = given.logits(x_BCHW)
        except ModelError as error:
            if not self._cast:
                raise
            raise ModelError(
                f"{error}; it was cast to {self.dtype_name}, which a model that casts by itself does not take: leave "
                "--dtype (dtype) out"
            ) from error
        self._inputs = given._inputs
        self._copies_input = not torch.equal(x_BCHW, kept_BCHW)
        if fixed:
            return
        copy_BCHW = kept_BCHW.clone()
        if not given.same_logits(expected_BK, given.logits(copy_BCHW)):
            return  # the logits change between calls, so no form can be compared; `preflight.independence` refuses f
        folded = None
        if fold and self.dtype_name in DTYPES:
            folded, self.folding = fold_batch_norm(self._given, x_BCHW.shape[1:])
        last = torch.channels_last
        for network, layout in ((folded, last), (folded, torch.contiguous_format), (self._given, last)):
            if network is None or isinstance(network, torch.jit.ScriptModule):
                continue
            candidate = copy.copy(given)
            candidate.layout = layout
            reason = "other logits"
            try:
                candidate._model = self._laid_out(network, layout)
                candidate._logits = candidate._cast_and_run
                same = given.same_logits(expected_BK, candidate.logits(kept_BCHW.clone()))
            except (ValueError, RuntimeError) as error:
                if is_out_of_memory(error):
                    raise
                same, reason = False, " ".join(str(error).split())[:120]
            if same:
                self._model, self.layout = candidate._model, layout
                break
            name = "channels_last" if layout is last else "contiguous"
            self.fallbacks.append(f"{name}{', folded' if network is folded else ''}: {reason}")
        if folded is not None and self._model is self._given:
            self.folding = "not folded: the outputs differ"
        self._logits = self._cast_and_run

    def _laid_out(self, network: nn.Module, layout: torch.memory_format) -> nn.Module:
        laid_out, reason = copied(network)
        if laid_out is None:
            raise ValueError(f"it cannot be copied ({reason})")
        return laid_out.to(memory_format=layout)  # type: ignore[call-overload]

    def as_given(self, rows: int) -> "BaseClassifier":
        """The given network with ``rows`` rows a forward pass: neither folded nor compiled, in contiguous layout."""
        found = self.resized(rows)
        found._model, found.layout = self._given, torch.contiguous_format
        found._logits, found.compiled = found._cast_and_run, "not asked for"
        found.folding = "not folded: as given"
        return found

    def resized(self, batch_size: int) -> "BaseClassifier":
        """The same network, uncompiled, with ``batch_size`` rows in every forward pass."""
        found = copy.copy(self)
        found.workers = [found]
        found.batch_size = found.micro_batch = batch_size
        found.on_smaller, found.compiled = lambda: None, "not asked for"
        found._logits = found._cast_and_run
        return found

    def employ(self, count: int) -> bool:
        """Let ``count`` workers classify at the same time, if that is certain to be safe.

        A randomised f keeps one worker, because several would draw from the same generator.

        Returns:
            True if there are now ``count`` workers; False if it is not certainly safe and there is one.
        """
        self.workers = [self]
        if self.compiled is None or self.randomized or self.device.type != "cpu":
            return False
        others = []
        for _ in range(count - 1):
            other = self.resized(self.batch_size)
            if (model := beside(self._model)) is None:
                return False
            other._model, other.micro_batch = model, self.micro_batch
            others.append(other)
        self.workers += others
        return True

    def agree_on_memory(self) -> None:
        """Set the micro-batch of every worker to the smallest one among them."""
        rows = min(worker.micro_batch for worker in self.workers)
        before = self.micro_batch
        for worker in self.workers:
            worker.micro_batch = rows
        if rows < before:
            self.on_smaller()

    def _cast_and_run(self, x_BCHW: Tensor) -> Tensor:
        if len(self._inputs) > 1:
            self._settle_input(x_BCHW)
        input_BCHW = x_BCHW.to(self._inputs[0], memory_format=self.layout)
        if self._copies_input and input_BCHW is x_BCHW:
            input_BCHW = x_BCHW.clone()
        return logits_of(self._model(input_BCHW), len(x_BCHW), self.num_classes)

    def _settle_input(self, x_BCHW: Tensor) -> None:
        """Find the input dtype that the network accepts; float32 is tried first."""
        while len(self._inputs) > 1:
            try:
                self._model(x_BCHW.to(self._inputs[0], copy=True, memory_format=self.layout))
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                self._inputs = self._inputs[1:]
            else:
                self._inputs = self._inputs[:1]

    def _forward(self, x_BCHW: Tensor) -> Tensor:
        """The logits of all rows, computed with as many rows at a time as memory allows."""
        while True:
            try:
                with user_code("the model"):
                    return in_parts(self._logits, x_BCHW, self.micro_batch)
            except (RuntimeError, MemoryError, ValueError) as error:
                if isinstance(error, ModelError) or not is_out_of_memory(error):
                    raise
            # Outside the handler, because the error keeps the failed pass's frames, and thus its memory, alive.
            self._halve()

    def _halve(self) -> None:
        rows = self.micro_batch // 2
        if self.compiled is None:
            raise OutOfMemory(
                f"memory ran out at a batch of {self.batch_size}, and a compiled network takes no other; pass "
                "--compile off or a smaller --batch-size, and another --out."
            )
        if rows < self.smallest_batch:
            fix = "export it for smaller batches" if rows else advice(self.device, self.dtype_name)
            raise OutOfMemory(f"memory ran out at {self.micro_batch} rows, the fewest that the model takes; {fix}.")
        self.micro_batch = rows
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.on_smaller()

    def compile(self, image_shape: Sequence[int]) -> None:
        """Compile f; use the result only if its logits agree with the network's up to rounding. See ``compiled``."""
        x_BCHW = self._probe(self.batch_size, image_shape)
        self._logits, self.compiled = compiled(self._cast_and_run, x_BCHW)
        with torch.inference_mode():
            if not self.same_logits(self._cast_and_run(x_BCHW), self._logits(x_BCHW)):
                self._logits, self.compiled = self._cast_and_run, "the compiled network gives other logits"

    @torch.inference_mode()
    def classify(self, x_BCHW: Tensor) -> Tensor:
        """The class of each row.

        Args:
            x_BCHW: float32, (B, C, H, W), on the classifier's device.

        Returns:
            int64, (B,): the index of the largest logit (the first one of equal ones). It is K if a logit is NaN or plus
            infinity, or if all are minus infinity; such a row counts as a sample, and is a vote for no class.

        Raises:
            ValueError: If the model does not return K logits for each row, or memory runs out for the fewest rows.
        """
        logits_BK = self._forward(x_BCHW)
        if logits_BK.shape != (len(x_BCHW), self.num_classes):
            raise ValueError(
                f"the model returned logits of shape {tuple(logits_BK.shape)} for {len(x_BCHW)} images and "
                f"{self.num_classes} classes; num_classes must be the number of its logits."
            )
        valid_B = logits_BK.amax(dim=1).isfinite()  # nan and infinity pass through amax
        return torch.where(valid_B, logits_BK.argmax(dim=1), self.num_classes)

    def empty_batch(self, image_shape: Sequence[int]) -> Tensor:
        """An uninitialised input batch, float32, (batch_size, C, H, W)."""
        shape = (self.batch_size, *image_shape)
        return torch.empty(shape, dtype=torch.float32, device=self.device, memory_format=self.layout)

    @torch.inference_mode()
    def logits(self, x_BCHW: Tensor) -> Tensor:
        """The network's logits for a whole batch, in the dtype that it returns."""
        return self._forward(x_BCHW).clone()  # the next call of a CUDA graph overwrites its output

    @torch.inference_mode()
    def mark(self, probe_NCHW: Tensor) -> Mark:
        """Record f's state and some of its logits, for ``change_since``.

        Args:
            probe_NCHW: uint8 images, (N, C, H, W), at least one.
        """
        state = weights_hash(self._model) if self.sha256 is not None else None
        x_BCHW = self._among_noise(probe_NCHW)
        return Mark(state, x_BCHW, None if self.randomized else self.logits(x_BCHW.clone()))

    def change_since(self, mark: Mark) -> str | None:
        """How f has changed since ``mark``: in its weights and buffers, or its logits beyond rounding; None if not."""
        for worker in self.workers if self.sha256 is not None else ():
            if (now := weights_hash(worker._model)) != mark.state:
                return f"SHA-256 {mark.state} is now {now}"
        if mark.logits_BK is not None:
            differing = int(self.differing(mark.logits_BK, self.logits(mark.x_BCHW.clone())).sum())
            if differing:
                return f"{differing} of {len(mark.x_BCHW)} images have other logits than before"
        return None

    def same_logits(self, expected_BK: Tensor, found_BK: Tensor) -> bool:
        """Whether logits of the same images agree up to the rounding of f's arithmetic."""
        return expected_BK.shape == found_BK.shape and not bool(self.differing(expected_BK, found_BK).any())

    def differing(self, expected_BK: Tensor, found_BK: Tensor, tolerance: float | None = None) -> Tensor:
        """Which rows have logits that differ by more than rounding: bool, (B,).

        The unit is a median over rows: of each row's two largest logits, which decide the class, the larger absolute
        value. A few huge logits, such as those of masked classes, therefore do not hide a difference.

        Args:
            expected_BK: Logits of some rows.
            found_BK: Logits of the same rows, from another computation.
            tolerance: Allowed difference, in that unit plus relative to each logit; by default ``self.tolerance``.
        """
        expected_BK, found_BK = expected_BK.double(), found_BK.double()
        tolerance = self.tolerance if tolerance is None else tolerance
        top_B2 = expected_BK.topk(min(2, expected_BK.shape[1])).values.abs().nan_to_num(posinf=0.0)
        unit = float(top_B2.amax(dim=1).median().clamp(min=1e-6)) if len(top_B2) else 1.0
        close_BK = expected_BK.isclose(found_BK, rtol=tolerance, atol=tolerance * unit, equal_nan=True)
        return ~close_BK.all(dim=1)

    @property
    def tolerance(self) -> float:
        """Tolerance of ``differing`` for rounding: 0.05 if the input or any weight has 16 bits, else 0.001."""
        used = {self.dtype, *(kind for kind in fractional_dtypes(self._model) if kind.is_floating_point)}
        return 5e-2 if any(torch.finfo(kind).bits < 32 for kind in used) else 1e-3

    def _probe(self, rows: int, image_shape: Sequence[int]) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(0)
        x_BCHW = torch.empty((rows, *image_shape), device=self.device, dtype=torch.float32)
        return x_BCHW.normal_(0.5, 0.5, generator=generator).to(memory_format=self.layout)

    def _among_noise(self, images: Tensor) -> Tensor:
        """A batch with fixed noise: images with noise in the first rows (at most 32), and noisy grey in the others."""
        used = images[:32].to(self.device)
        rows = min(32, self.batch_size)
        x_BCHW = self._probe(self.batch_size, images.shape[1:])
        x_BCHW[:rows] += used[torch.arange(rows, device=self.device) % len(used)] / 255 - 0.5
        return x_BCHW

    def fingerprint(self, images: Tensor) -> dict[str, str | None]:
        """f's answers on the first images of a data set with fixed noise.

        They reveal a change of the model's code, which the hash of the weights cannot.

        Args:
            images: uint8 images, (N, C, H, W), at least one; the first 32 are used.

        Returns:
            Two entries for the manifest. ``classes_on_probe`` holds the classes. ``logits_sha256`` is the SHA-256 of
            the logits for an f without weights of its own, such as a function of arrays. It is None for other models,
            whose last bits may depend on the number of threads. A randomised f cannot repeat its answers: empty.
        """
        if self.randomized:
            return {}
        x_BCHW, rows = self._among_noise(images), min(32, self.batch_size)
        with torch.inference_mode():
            logits_BK = self._forward(x_BCHW.clone())[:rows].float().cpu()
        classes = " ".join(str(int(label)) for label in self.classify(x_BCHW)[:rows])
        logits = hashlib.sha256(logits_BK.contiguous().numpy().tobytes()).hexdigest()
        return {"classes_on_probe": classes, "logits_sha256": None if self.sha256 else logits}

    def describe(self) -> dict[str, Any]:
        """The definition of f for the manifest. Two runs certify the same function only if all of it is equal."""
        cuda = self.device.type == "cuda"
        more: dict[str, Any] = {"fallbacks": self.fallbacks} if self.fallbacks else {}
        if self.dtype_name == GIVEN:
            more["weights"] = sorted(str(kind).removeprefix("torch.") for kind in fractional_dtypes(self._given))
        if self._not_hashed:
            more["not_hashed"] = self._not_hashed
        if self.randomized:
            more["randomized"] = True
        return {
            "weights_sha256": self.sha256,
            "num_classes": self.num_classes,
            "dtype": self.dtype_name,
            "folding": self.folding,
            "compiled": self.compiled is None,
            "batch_size": self.batch_size,
            "layout": "channels_last" if self.layout is torch.channels_last else "contiguous",
            "device": torch.cuda.get_device_name(self.device) if cuda else f"cpu ({cpu_capability()})",
            "torch": torch.__version__,
            "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32 if cuda else False,
            **more,
        }


def require_evaluation_mode(model: nn.Module) -> None:
    """Refuse a model in training mode.

    In training mode batch norm couples the samples of a batch, and dropout randomises f. No deployed model does that.

    Raises:
        ValueError: If any module of the model is in training mode.
    """
    for name, module in model.named_modules():
        if module.training:
            raise ValueError(
                f"the model is in training mode ({name or 'the whole model'}): batch norm would mix the samples of a "
                "batch and the certificate would be void; call model.eval() first."
            )


def cpu_capability() -> str:
    """The instruction set that torch's CPU kernels use; their rounding depends on it."""
    return str(torch.backends.cpu.get_cpu_capability())
