"""The base classifier f exactly as it is certified: these weights, this arithmetic, this batch size."""

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
    """What f was at some time: the hash of its state, and its logits of some rows; None where it has none of them."""

    state: str | None
    x_BCHW: Tensor
    logits_BK: Tensor | None


class BaseClassifier:
    """A frozen network from image batches to classes.

    Batches always have ``batch_size`` rows (the engine pads the last), because a kernel may round differently at
    another size, and then f would be another function.

    A new classifier runs the model exactly as it came: its own dtype and memory layout, nothing folded. ``prepare``
    then looks for a faster form of the same function.

    Args:
        model: From (B, C, H, W) images in [0, 1] plus noise to (B, K) logits, in evaluation mode; for other outputs see
            ``logits_of``. It is copied if it can be: later changes to it do not reach the copy.
        num_classes: Number of logits K.
        device: Where f runs.
        dtype: None for the model's own arithmetic. "float32", "bfloat16" or "float16" casts all weights, which makes
            another function of a model whose weights are of another kind.
        batch_size: Rows of every forward pass.
        image_shape: (C, H, W). If given, the classifier is prepared.
        examples: float32 (N, C, H, W), noisy images to prepare it on; random numbers around grey without.
        compile: Run it through torch.compile; see ``models.acceleration``. It needs ``image_shape``, and takes seconds.
        smallest_batch: Fewest rows that the model accepts.
        randomized: The model draws random numbers of its own, afresh for every row; see ``preflight.independence``.

    Attributes:
        dtype_name: "float32", "bfloat16", "float16", or "given" where the model's weights are of another kind.
        layout: Memory layout of f's input.
        folding: How many batch norms are folded into convolutions, or why none is; see ``certify.models.acceleration``.
        fallbacks: Forms of the network that turned out to be another function, or none, and why.
        compiled: None if it runs compiled, else why it does not.
        micro_batch: Rows that go through at once: fewer than a batch after memory ran out; see ``models.memory``.
        on_smaller: Called whenever ``micro_batch`` has become smaller.
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
            raise ValueError("a function of arrays has its own arithmetic: dtype must be float32, and compile off.")
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
        # The first that the model takes: images are float32, but a model of 16 bits may want its own.
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
        """The dtype of the weights in words, for users."""
        kinds = sorted(str(kind).removeprefix("torch.") for kind in fractional_dtypes(self._given))
        return f"{' and '.join(kinds)} as given" if self.dtype_name == GIVEN else self.dtype_name

    @property
    def dtype(self) -> torch.dtype:
        """Of the input that the network gets."""
        return self._inputs[0]

    def _placed(self, model: nn.Module, cast: bool) -> nn.Module:
        """A copy of the model on the device, in the arithmetic that was asked for; itself where none can be made."""
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
        """The model on the device; one that is there already is not touched."""
        there = torch.empty(0, device=self.device).device
        tensors = (*model.parameters(), *model.buffers())
        return model if all(tensor.device == there for tensor in tensors) else model.to(self.device)

    def prepare(self, examples_NCHW: Tensor, *, fold: bool = True) -> None:
        """Take the fastest form of the network that gives the logits of the model as it came.

        In this order: batch norms folded into convolutions, and images laid out channels last; one of the two; neither.
        What turns out to be another function on the examples, beyond rounding, is noted in ``fallbacks``.

        Args:
            examples_NCHW: float32, (N, C, H, W), at least one: noisy images, as f will get them.
            fold: Whether to try folding.

        Raises:
            ValueError: If the model cannot be run on them; with what it raised and where.
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
            return  # it changes from call to call, and nothing can be compared; `preflight.independence` refuses it
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
        """The network as it came, so many rows at a time: neither folded nor compiled, in the layout of its tensors."""
        found = self.resized(rows)
        found._model, found.layout = self._given, torch.contiguous_format
        found._logits, found.compiled = found._cast_and_run, "not asked for"
        found.folding = "not folded: as given"
        return found

    def resized(self, batch_size: int) -> "BaseClassifier":
        """The same network, uncompiled, with so many rows of every forward pass."""
        found = copy.copy(self)
        found.workers = [found]
        found.batch_size = found.micro_batch = batch_size
        found.on_smaller, found.compiled = lambda: None, "not asked for"
        found._logits = found._cast_and_run
        return found

    def employ(self, count: int) -> bool:
        """Let so many workers classify at the same time; False, and one as before, if that is not certain to be safe.

        A randomised f has one worker, since all would draw from one generator.
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
        """Give all workers the fewest rows at a time that any of them was left with."""
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
        """Find out which dtype the network wants its images in, float32 if it takes that."""
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
        """The logits, by as many rows at a time as there is memory for."""
        while True:
            try:
                with user_code("the model"):
                    return in_parts(self._logits, x_BCHW, self.micro_batch)
            except (RuntimeError, MemoryError, ValueError) as error:
                if isinstance(error, ModelError) or not is_out_of_memory(error):
                    raise
            # Outside the handler: the error holds the frames, and with them the memory, of the pass that failed.
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
        """Compile f, and keep that only if its logits are those of the network up to rounding; see ``compiled``."""
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
            int64, (B,): the first largest logit, or K where a logit is NaN or plus infinity, or all are minus
            infinity. Such a row is counted, and is a vote for no class.

        Raises:
            ValueError: If the model does not return K logits for each row, or memory runs out and cannot be saved.
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
        """An input batch to be filled, float32, (batch_size, C, H, W)."""
        shape = (self.batch_size, *image_shape)
        return torch.empty(shape, dtype=torch.float32, device=self.device, memory_format=self.layout)

    @torch.inference_mode()
    def logits(self, x_BCHW: Tensor) -> Tensor:
        """What the network returns for a whole batch, in its own dtype."""
        return self._forward(x_BCHW).clone()  # of a CUDA graph, the next call overwrites it

    @torch.inference_mode()
    def mark(self, probe_NCHW: Tensor) -> Mark:
        """What ``change_since`` compares with later.

        Args:
            probe_NCHW: uint8, at least one image.
        """
        state = weights_hash(self._model) if self.sha256 is not None else None
        x_BCHW = self._among_noise(probe_NCHW)
        return Mark(state, x_BCHW, None if self.randomized else self.logits(x_BCHW.clone()))

    def change_since(self, mark: Mark) -> str | None:
        """How f has changed: its weights and buffers, or its logits beyond rounding; None if it has not."""
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
        """Which rows have other logits, beyond rounding: bool, (B,).

        The unit is the median over the rows of the larger one of the two largest logits, which decide: a few logits
        that are huge, such as those of classes that are masked, hide nothing.

        Args:
            expected_BK: Logits.
            found_BK: Logits of the same rows.
            tolerance: In that unit, and relative to each logit; by default that of f's arithmetic.
        """
        expected_BK, found_BK = expected_BK.double(), found_BK.double()
        tolerance = self.tolerance if tolerance is None else tolerance
        top_B2 = expected_BK.topk(min(2, expected_BK.shape[1])).values.abs().nan_to_num(posinf=0.0)
        unit = float(top_B2.amax(dim=1).median().clamp(min=1e-6)) if len(top_B2) else 1.0
        close_BK = expected_BK.isclose(found_BK, rtol=tolerance, atol=tolerance * unit, equal_nan=True)
        return ~close_BK.all(dim=1)

    @property
    def tolerance(self) -> float:
        """Of the rounding of logits, in the unit of ``differing``: by the least precise arithmetic known to be used."""
        used = {self.dtype, *(kind for kind in fractional_dtypes(self._model) if kind.is_floating_point)}
        return 5e-2 if any(torch.finfo(kind).bits < 32 for kind in used) else 1e-3

    def _probe(self, rows: int, image_shape: Sequence[int]) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(0)
        x_BCHW = torch.empty((rows, *image_shape), device=self.device, dtype=torch.float32)
        return x_BCHW.normal_(0.5, 0.5, generator=generator).to(memory_format=self.layout)

    def _among_noise(self, images: Tensor) -> Tensor:
        """Up to 32 images with fixed noise in the first rows of a batch, and noise around grey behind them."""
        used = images[:32].to(self.device)
        rows = min(32, self.batch_size)
        x_BCHW = self._probe(self.batch_size, images.shape[1:])
        x_BCHW[:rows] += used[torch.arange(rows, device=self.device) % len(used)] / 255 - 0.5
        return x_BCHW

    def fingerprint(self, images: Tensor) -> dict[str, str | None]:
        """What the weights' hash cannot see, the code, on the first images of a data set and fixed noise.

        Args:
            images: uint8, (N, C, H, W), at least one; the first 32 are taken.

        Returns:
            For the manifest: f's classes of them, and for an f without weights of its own, such as a function of
            arrays, also the SHA-256 of all its logits, to the bit; None for others, whose last bits may depend on the
            number of threads. Nothing of a randomised f, whose answers cannot be repeated.
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
        """Definition of f for the manifest: what must be equal for two runs to certify the same function."""
        cuda = self.device.type == "cuda"
        told: dict[str, Any] = {"fallbacks": self.fallbacks} if self.fallbacks else {}
        if self.dtype_name == GIVEN:
            told["weights"] = sorted(str(kind).removeprefix("torch.") for kind in fractional_dtypes(self._given))
        if self._not_hashed:
            told["not_hashed"] = self._not_hashed
        if self.randomized:
            told["randomized"] = True
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
            **told,
        }


def require_evaluation_mode(model: nn.Module) -> None:
    """Refuse a model in training mode.

    Raises:
        ValueError: If any module of it is. Batch norm would then couple the samples of a batch and dropout would
            randomise f; neither is what gets deployed.
    """
    for name, module in model.named_modules():
        if module.training:
            raise ValueError(
                f"the model is in training mode ({name or 'the whole model'}): batch norm would mix the samples of a "
                "batch and the certificate would be void; call model.eval() first."
            )


def cpu_capability() -> str:
    """The instruction set that torch's kernels use, on which their rounding depends."""
    return str(torch.backends.cpu.get_cpu_capability())
