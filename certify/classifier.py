"""The base classifier f exactly as it is certified: these weights, this arithmetic, this batch size."""

# Shapes: B rows of a batch, K classes; C channels, H height, W width.

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from certify.calling import user_code
from certify.compiling import compiled
from certify.folding import copied, fold_batch_norm
from certify.foreign import ArrayFunction
from certify.memory import OutOfMemory, advice, in_parts, is_out_of_memory

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEPENDENT_ROWS = (
    "the model's answer for an image changes with the other images of its batch, or from call to call: batch norm "
    "without running statistics, dropout that is always on, or quantisation by batch. Its samples are not independent, "
    "and a certificate would be void; replace those layers."
)


class BaseClassifier:
    """A frozen network from image batches to classes.

    Batches always have ``batch_size`` rows (the engine pads the last), because a kernel may round differently at
    another size, and then f would be another function.

    Args:
        model: From (B, C, H, W) images in [0, 1] plus noise to (B, K) logits, in evaluation mode. It is copied; later
            changes to it do not reach the copy.
        num_classes: Number of logits K.
        device: Where f runs.
        dtype: Arithmetic of the whole network, "float32", "bfloat16" or "float16".
        batch_size: Rows of every forward pass.
        channels_last: Memory layout of images and weights.
        image_shape: (C, H, W). If given, batch norms are folded into convolutions; see ``certify.folding``.
        compile: Run it through torch.compile; see ``certify.compiling``. It needs ``image_shape``, and takes seconds.
        smallest_batch: Fewest rows that the model accepts.

    Attributes:
        compiled: None if it runs compiled, else why it does not.
        micro_batch: Rows that go through at once: fewer than a batch after memory ran out; see ``certify.memory``.
        on_smaller: Called whenever ``micro_batch`` has become smaller.

    Raises:
        ValueError: If a module is in training mode, or ``dtype``, ``batch_size`` or ``compile`` does not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        device: torch.device | str = "cpu",
        dtype: str = "float32",
        batch_size: int = 256,
        channels_last: bool = True,
        image_shape: Sequence[int] | None = None,
        compile: bool = False,
        smallest_batch: int = 1,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
        if isinstance(model, ArrayFunction) and (dtype != "float32" or compile):
            raise ValueError("a function of arrays has its own arithmetic: dtype must be float32, and compile off.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        require_evaluation_mode(model)
        self.sha256 = weights_hash(model) if model.state_dict() or list(model.buffers()) else None
        self.num_classes, self.device, self.batch_size = num_classes, torch.device(device), batch_size
        self.micro_batch, self._smallest_batch = batch_size, smallest_batch
        self.on_smaller: Callable[[], None] = lambda: None
        self.dtype, self.dtype_name = DTYPES[dtype], dtype
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        if image_shape is None:
            frozen, self.folding = copied(model), "not folded: not asked for"
        else:
            frozen, self.folding = fold_batch_norm(model, image_shape)
        frozen = frozen.to(self.device, self.dtype).requires_grad_(False)
        self._model: nn.Module = frozen.to(memory_format=self.layout)  # type: ignore[call-overload]
        self._logits: Callable[[Tensor], Tensor] = self._cast_and_run
        self.compiled: str | None = "not asked for"
        if compile:
            if image_shape is None:
                raise ValueError("to compile a model its image_shape must be given.")
            self._compile(image_shape)

    def _cast_and_run(self, x_BCHW: Tensor) -> Tensor:
        logits: Tensor = self._model(x_BCHW.to(self.dtype, memory_format=self.layout))
        return logits

    def _forward(self, x_BCHW: Tensor) -> Tensor:
        """The logits, by as many rows at a time as there is memory for."""
        while True:
            try:
                return in_parts(self._logits, x_BCHW, self.micro_batch)
            except (RuntimeError, MemoryError, ValueError) as error:
                if not is_out_of_memory(error):
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
        if rows < self._smallest_batch:
            fix = "export it for smaller batches" if rows else advice(self.device, self.dtype_name)
            raise OutOfMemory(f"memory ran out at {self.micro_batch} rows, the fewest that the model takes; {fix}.")
        self.micro_batch = rows
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.on_smaller()

    def _compile(self, image_shape: Sequence[int]) -> None:
        """Compile f, and keep it only if its logits are those of the network up to rounding."""
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
            int64, (B,): the first largest logit, or K where a logit is NaN or plus infinity, or all are minus infinity.
            Such a row is counted, and is a vote for no class.

        Raises:
            ValueError: If the model does not return K logits for each row, or memory runs out and cannot be saved.
        """
        logits_BK = self._forward(x_BCHW)
        if logits_BK.shape != (len(x_BCHW), self.num_classes):
            raise ValueError(
                f"the model returned logits of shape {tuple(logits_BK.shape)} for {len(x_BCHW)} images and "
                f"{self.num_classes} classes; num_classes must be the number of its logits."
            )
        valid_B = logits_BK.amax(dim=1).isfinite()  # NaN goes through; minus infinity masks a class
        return torch.where(valid_B, logits_BK.argmax(dim=1), self.num_classes)

    def empty_batch(self, image_shape: Sequence[int]) -> Tensor:
        """An input batch to be filled, float32, (batch_size, C, H, W)."""
        shape = (self.batch_size, *image_shape)
        return torch.empty(shape, dtype=torch.float32, device=self.device, memory_format=self.layout)

    @torch.inference_mode()
    def logits(self, x_BCHW: Tensor) -> Tensor:
        """What the network returns for a whole batch, in its own dtype."""
        return self._forward(x_BCHW).clone()  # of a CUDA graph, the next call overwrites it

    def state_sha256(self) -> str:
        """SHA-256 of the weights and buffers that f computes with: the same as long as f does not change itself."""
        return weights_hash(self._model)

    def identity(self, probe_NCHW: Tensor) -> str:
        """What stays the same as long as f does: the hash of its state or, without one, its classes of some images.

        Args:
            probe_NCHW: uint8, at least one.
        """
        if self.sha256 is not None:
            return f"SHA-256 {self.state_sha256()}"
        return f"classes {self.fingerprint(probe_NCHW)['classes_on_probe']}"

    def require_independent_rows(self, image_shape: Sequence[int]) -> None:
        """Refuse an f whose answer for one row depends on the other rows of its batch, on its place, or on chance.

        Every second row is replaced, by far larger numbers, which stretch any scale that is taken from the whole batch,
        and all rows change places.

        Raises:
            ValueError: If that changes the logits of the rows that were kept beyond rounding.
        """
        x_BCHW = self._probe(self.batch_size, image_shape)
        if not self.same_logits(self.logits(x_BCHW)[::2], self.logits(among_strangers(x_BCHW)).flip(0)[::2]):
            raise ValueError(DEPENDENT_ROWS)

    def same_logits(self, expected_BK: Tensor, found_BK: Tensor) -> bool:
        """Whether logits of the same images agree up to the rounding of f's arithmetic."""
        expected_BK, found_BK = expected_BK.float(), found_BK.float()
        tolerance = 1e-3 if self.dtype == torch.float32 else 5e-2
        scale = torch.nan_to_num(expected_BK.abs(), posinf=0).amax().clamp(min=1e-6)
        atol = tolerance * float(scale)
        return torch.allclose(expected_BK, found_BK, rtol=0, atol=atol, equal_nan=True)

    def _probe(self, rows: int, image_shape: Sequence[int]) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(0)
        x_BCHW = torch.empty((rows, *image_shape), device=self.device, dtype=torch.float32)
        return x_BCHW.normal_(0.5, 0.5, generator=generator).to(memory_format=self.layout)

    def fingerprint(self, images: Tensor) -> dict[str, str | None]:
        """What the weights' hash cannot see, the code, on the first images of a data set and fixed noise.

        Args:
            images: uint8, (N, C, H, W), at least one; the first 32 are taken.

        Returns:
            For the manifest: f's classes of them, and for an f without weights of its own, such as a function of
            arrays, also the SHA-256 of all its logits, to the bit; None for others, whose last bits may depend on the
            number of threads.
        """
        used = images[:32].to(self.device)
        rows = min(32, self.batch_size)
        x_BCHW = self._probe(self.batch_size, images.shape[1:])
        x_BCHW[:rows] += used[torch.arange(rows, device=self.device) % len(used)] / 255 - 0.5
        with torch.inference_mode():
            logits_BK = self._forward(x_BCHW)[:rows].float().cpu()
        classes = " ".join(str(int(label)) for label in self.classify(x_BCHW)[:rows])
        logits = hashlib.sha256(logits_BK.contiguous().numpy().tobytes()).hexdigest()
        return {"classes_on_probe": classes, "logits_sha256": None if self.sha256 else logits}

    def describe(self) -> dict[str, Any]:
        """Definition of f for the manifest: what must be equal for two runs to certify the same function."""
        cuda = self.device.type == "cuda"
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


def among_strangers(x_BCHW: Tensor) -> Tensor:
    """A batch with every second row replaced by one 1000 times as far from grey, and all rows in reverse order."""
    other_BCHW = x_BCHW.clone()
    other_BCHW[1::2] = 0.5 + 1000 * (x_BCHW[1::2] - 0.5)
    return other_BCHW.flip(0)


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of the names, types, shapes and values of all parameters and buffers, in order."""
    digest = hashlib.sha256()
    state = model.state_dict()
    hidden = {name: buffer for name, buffer in model.named_buffers() if name not in state}
    for name, tensor in {**state, **hidden}.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def cpu_capability() -> str:
    """The instruction set that torch's kernels use, on which their rounding depends."""
    return str(torch.backends.cpu.get_cpu_capability())


def probe(model: nn.Module, image_shape: Sequence[int], batch_sizes: tuple[int, int] = (1, 2**31)) -> int:
    """The number of classes of a model, found by showing it grey images, as many as it accepts that are nearest to two.

    Raises:
        ValueError: If it does not take such images, or does not return one row of logits.
    """
    first = next((tensor for tensor in model.parameters()), torch.zeros(()))
    rows = min(max(2, batch_sizes[0]), batch_sizes[1])
    x = torch.full((rows, *image_shape), 0.5, device=first.device, dtype=first.dtype)
    shape = "x".join(map(str, image_shape))
    with user_code(f"the model does not take {shape} (CxHxW) images", fewer=False), torch.inference_mode():
        logits = model(x)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != rows:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the model must return logits of shape (batch, classes), got {found} for {rows} {shape} images."
        )
    return logits.shape[1]
