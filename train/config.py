"""What a training run is: one frozen dataclass. ``train.config_file`` fills it."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maxup_smoothing.data.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run. Fields without a default must be given.

    Attributes:
        dataset: Name in ``data.registry``, an ``.npz`` file or a folder of class folders.
        arch: Name in ``train.models``; ``timm:NAME`` or ``torchvision:NAME``; ``hf:FOLDER``, a local folder of
            transformers; or a factory, ``package.module:factory`` or ``file.py:factory``, which is called with
            ``image_shape`` and ``num_classes``.
        arch_options: Further options of the network by its own names, such as ``arch_options.drop_path_rate = 0.1``.
        objective: Name in ``train.objectives``.
        sigma: Standard deviation of the noise in [0, 1] pixel units; 0 trains without noise.
        epochs: Passes over the training images.
        batch_size: Images in a step, over all processes and accumulated parts.
        lr: Learning rate; for ``onecycle`` its peak.
        init: Weights to begin with, to fine-tune a trained network: a run folder or checkpoint of the same
            architecture, another project's state_dict (.pth, .ckpt, .safetensors …), or ``timm:NAME``,
            ``torchvision:NAME`` or ``hf:FOLDER`` for pretrained ones; random ones without, but ``arch = "hf:FOLDER"``
            begins with the weights in its folder.
        init_head: ``keep``, or ``reset`` to begin with a new classifier head where that of ``init`` has other classes.
        init_weights: Which of several sets of weights in the file ``init``: ``ema``, ``raw``, or the name of a set.
        m: Copies of each image.
        perturbation: Plain, mean_of_m and MaxUp: what makes a copy, in this order: any of ``crop``, ``flip``,
            ``cutout``, ``mixup``, ``cutmix``, ``randaugment``, and ``noise`` (of ``sigma``) as the last.
        cutout_size: Side of the square that ``cutout`` paints over, in pixels.
        mixup_alpha: The weight in ``mixup`` is Beta(alpha, alpha).
        cutmix_alpha: The area that stays in ``cutmix`` is Beta(alpha, alpha).
        randaugment_n: Operations on each image.
        randaugment_magnitude: Their strength, in (0, 30].
        m_start: MaxUp: copies in the first epoch, from which ``m`` is reached within ``warmup``; 0 for m throughout.
        reduction: MaxUp: ``max``, ``mean``, ``topk`` or ``logsumexp`` over the copies.
        top_k: How many copies ``topk`` keeps.
        temperature: Of ``logsumexp``.
        selection: How MaxUp compares copies: ``train``, ``eval`` or ``joint``; see ``train.maxup``.
        worst_of: MaxUp on top of stability, consistency and smoothadv: candidates for the worst copy; 1 without.
        graded: With worst_of: an image gets as bad a copy as its confidence allows, not the worst; see
            ``train.objectives.worst_copy``.
        reach: Consistency, with graded: how many sigma the copies of a sure image may be moved towards the boundary;
            see ``train.objectives.worst_copy``.
        lam: Weight of the method's own term (lambda; SmoothMix's eta).
        eta: Consistency: weight of the entropy of the mean prediction.
        start: Epoch, from 0, in which the method's own term (or attack) sets in.
        warmup: Epochs within which its strength grows to the full one.
        attack: SmoothAdv: ``pgd`` or ``ddn``.
        epsilon: Largest l2 norm of the attack in [0, 1] pixel units.
        steps: Of the attack.
        step_size: Of SmoothMix's attack; it has no largest norm.
        one_step: SmoothMix: train on the image after the attack's first step instead of the clean one.
        beta: MACER: inverse temperature of the softmax in the radius.
        margin: MACER: largest gap of quantiles that is still widened (gamma).
        teacher: CAT-RS: run folder of a classifier trained with noise, whose smoothed predictions are the targets;
            without one the model's own are.
        teacher_n: CAT-RS: noisy copies of each training image that the teacher sees.
        label_smoothing: Of every cross-entropy, in [0, 1).
        accumulate: Parts into which each process cuts its share of a batch, one after another: less memory. The step
            is that of the whole batch, but batch norm sees each part by itself.
        ema: Decay of the moving average of the weights that is saved, such as 0.999 a step; 0 saves the weights.
        schedule: ``step``, ``cosine``, ``onecycle`` or ``constant``.
        step_epochs: For ``step``: epochs between two drops.
        gamma: For ``step``: factor of a drop.
        optimizer: ``sgd`` or ``adamw``.
        momentum: Of SGD.
        nesterov: Of SGD.
        betas: Of AdamW.
        weight_decay: Of either optimizer.
        decay_norms: Whether norms and biases (all weights of one dimension) decay, too.
        layer_decay: The learning rate of each layer over that of the next one, in (0, 1]; the head has ``lr``.
        clip: Largest norm of the gradient; 0 does not clip it.
        lr_warmup: Epochs, which may be a fraction, within which the learning rate grows to ``lr``, step by step.
        lr_min: For ``cosine``: the learning rate at the end.
        grad_checkpointing: Compute activations again in the backward pass, which takes less memory; networks of timm
            and transformers offer it.
        augment: Any of ``random_resized_crop`` (a part of the image that covers ``crop_scale`` of its area, brought to
            the size of ``crop``; decoded from disk by ``workers``), ``crop`` (4 pixels of padding) and ``flip``,
            applied before the noise; all copies share it.
        resize: Pixels to which the shorter side of images of any size is brought; 0 leaves it.
        crop: Pixels of the square that is then cut out of the centre; 0 for ``resize``. Without either images must have
            one size.
        interpolation: Filter of the two, such as ``bilinear`` or ``bicubic``; ``bilinear`` if empty.
        crop_scale: For ``random_resized_crop``: smallest and largest part of the area.
        workers: For ``random_resized_crop``: processes that decode; 0 decodes in the one that trains.
        skip_unreadable: For ``random_resized_crop``: pass over files that cannot be read, and count them.
        mean: Normalisation, the model's first layer; one number or one a channel. A network of a library has the one
            that it declares, unless this is set; ``[0, 0, 0]`` and ``std = [1, 1, 1]`` are none.
        std: The same.
        shortcut: Of the residual networks, ``conv`` or ``pad``.
        dtype: Arithmetic of the passes: ``float32`` or ``bfloat16`` (autocast; weights stay float32).
        channels_last: Memory layout of images and weights.
        compile: Pass the model through torch.compile; see benchmarks/README.md for where it pays.
        holdout: Images withheld from training, evenly spread over the split, or over each class where they would not
            have the shares of the classes otherwise; noisy accuracy is then measured on them.
        validate_every: Epochs between two certifications of held-out images (and after the last epoch); 0 for none.
        validate_images: How many of them, spread likewise.
        validate_n: Samples for each, at most.
        probe: Without ``holdout``: training images on which noisy accuracy is measured, spread likewise.
        seed: Fixes initial weights, order, augmentation and noise.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        tensorboard: Write what train.csv holds for TensorBoard, too.
    """

    dataset: str
    arch: str
    objective: str
    sigma: float
    epochs: int
    batch_size: int
    lr: float
    init: str = ""
    init_weights: str = ""
    init_head: str = "keep"
    arch_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    m: int = 1
    perturbation: tuple[str, ...] = ("noise",)
    cutout_size: int = 16
    mixup_alpha: float = 1.0
    cutmix_alpha: float = 1.0
    randaugment_n: int = 2
    randaugment_magnitude: float = 9.0
    m_start: int = 0
    reduction: str = "max"
    top_k: int = 1
    temperature: float = 1.0
    selection: str = "train"
    worst_of: int = 1
    graded: bool = False
    reach: float = 0.0
    lam: float = 1.0
    eta: float = 0.5
    start: int = 0
    warmup: int = 0
    attack: str = "pgd"
    epsilon: float = 1.0
    steps: int = 10
    step_size: float = 1.0
    one_step: bool = False
    beta: float = 16.0
    margin: float = 8.0
    teacher: str = ""
    teacher_n: int = 100
    label_smoothing: float = 0.0
    accumulate: int = 1
    ema: float = 0.0
    schedule: str = "step"
    step_epochs: int = 30
    gamma: float = 0.1
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = False
    betas: tuple[float, ...] = (0.9, 0.999)
    decay_norms: bool = True
    layer_decay: float = 1.0
    clip: float = 0.0
    lr_warmup: float = 0.0
    lr_min: float = 0.0
    grad_checkpointing: bool = False
    augment: tuple[str, ...] = ()
    resize: int = 0
    crop: int = 0
    interpolation: str = ""
    crop_scale: tuple[float, ...] = (0.25, 1.0)
    workers: int = 2
    skip_unreadable: bool = False
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    shortcut: str = "conv"
    dtype: str = "float32"
    channels_last: bool = True
    compile: bool = False
    holdout: int = 0
    validate_every: int = 0
    validate_images: int = 200
    validate_n: int = 1000
    probe: int = 2000
    seed: int = 0
    device: str = "auto"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Check what one field alone can say; names are checked where they are looked up."""
        positive = ("epochs", "batch_size", "accumulate", "lr", "gamma", "step_epochs", "validate_images", "validate_n")
        methods = ("m", "worst_of", "steps", "teacher_n", "beta", "epsilon", "step_size", "margin")
        parts = ("cutout_size", "mixup_alpha", "cutmix_alpha", "randaugment_n", "randaugment_magnitude")
        for name in (*positive, *methods, *parts):
            value = getattr(self, name)
            _require(0 < value < math.inf, f"{name} must be positive and finite, got {value}.")
        counts = ("resize", "crop", "workers", "holdout", "probe", "seed", "start", "warmup", "validate_every")
        rates = ("clip", "lr_warmup", "lr_min")
        for name in ("sigma", "momentum", "weight_decay", "reach", "lam", "eta", *counts, *rates):
            _require(getattr(self, name) >= 0, f"{name} must be at least 0, got {getattr(self, name)}.")
        _require(self.seed < 2**63, f"seed must be below 2^63, got {self.seed}.")
        _require(
            self.sigma < 4, f"sigma is in [0, 1] pixel units, got {self.sigma}; did you mean {self.sigma / 255:.3g}?"
        )
        _choice("schedule", self.schedule, ("step", "cosine", "onecycle", "constant"))
        _choice("optimizer", self.optimizer, ("sgd", "adamw"))
        _choice("init_head", self.init_head, ("keep", "reset"))
        _choice("dtype", self.dtype, ("float32", "bfloat16"))
        _choice("attack", self.attack, ("pgd", "ddn"))
        _choice("selection", self.selection, ("train", "eval", "joint"))
        _require(self.momentum < 1, f"momentum must be below 1, got {self.momentum}.")
        for name, value in dataclasses.asdict(self).items():
            for number in value if isinstance(value, tuple) else (value,):
                whole = name != "seed" and isinstance(number, int) and number >= 2**31
                if whole or (isinstance(number, float) and not math.isfinite(number)):
                    raise ValueError(f"{name} must be finite{' and below 2^31' if whole else ''}, got {number}.")
        _require(self.temperature > 0, f"temperature must be positive, got {self.temperature}.")
        _require(min(self.std, default=1) > 0, f"std must be positive, got {list(self.std)}.")
        _check_options(self.arch_options)
        _require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"betas must be two numbers in [0, 1), got {list(self.betas)}.",
        )
        _require(0 < self.layer_decay <= 1, f"layer_decay must lie in (0, 1], got {self.layer_decay}.")
        _require(
            self.lr_warmup < self.epochs,
            f"lr_warmup = {self.lr_warmup:g} epochs leave none of {self.epochs} at the full rate; lower it.",
        )
        _require(
            not self.lr_warmup or self.schedule != "onecycle",
            "schedule = 'onecycle' warms up by itself; leave lr_warmup out, or choose cosine.",
        )
        _require(self.lr_min < self.lr, f"lr_min = {self.lr_min:g} must be below lr = {self.lr:g}.")
        _require(self.start < self.epochs, f"start = {self.start} is never reached in {self.epochs} epochs.")
        _require(0 <= self.ema < 1, f"ema must lie in [0, 1), got {self.ema}.")
        _require(
            self.validate_every == 0 or self.holdout > 0,
            "validate_every certifies held-out training images: set holdout to their number, such as 5000.",
        )
        _require(0 <= self.label_smoothing < 1, f"label_smoothing must lie in [0, 1), got {self.label_smoothing}.")
        _require(
            self.randaugment_magnitude <= 30,
            f"randaugment_magnitude must lie in (0, 30], got {self.randaugment_magnitude}.",
        )
        for part in self.augment:
            _choice("augment", part, ("crop", "flip", "random_resized_crop"))
        from_disk = "random_resized_crop" in self.augment
        _require(
            not from_disk or (self.augment[0] == "random_resized_crop" and bool(self.crop or self.resize)),
            "random_resized_crop comes first in augment, and needs crop, the size of its images, such as crop = 224.",
        )
        _require(
            len(self.crop_scale) == 2 and 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1,
            f"crop_scale must be two parts of the area, 0 < smallest <= largest <= 1, got {list(self.crop_scale)}.",
        )
        _require(
            not (from_disk and self.teacher),
            "teacher predicts images in memory; leave random_resized_crop out of augment.",
        )
        if self.resize or self.crop:
            self.preprocessing()  # which checks them
        residual = self.arch.startswith("resnet") and ":" not in self.arch
        for active, when, keys in (
            (self.validate_every > 0, "with validate_every", ("validate_images", "validate_n")),
            (bool(self.resize or self.crop), "with resize or crop", ("interpolation",)),
            (from_disk, "with random_resized_crop in augment", ("crop_scale", "skip_unreadable")),
            (residual, "by the residual networks of this project", ("shortcut",)),
            (self.optimizer == "sgd", 'with optimizer = "sgd"', ("momentum", "nesterov")),
            (self.optimizer == "adamw", 'with optimizer = "adamw"', ("betas",)),
            (self.schedule == "cosine", 'with schedule = "cosine"', ("lr_min",)),
            (bool(self.init) or self.arch.startswith("hf:"), "with init", ("init_head",)),
        ):
            if not active:
                refuse_idle(self, when, *keys)

    def preprocessing(self) -> Preprocessing | None:
        """How images of any size are prepared; None for images as they are stored."""
        if not self.resize and not self.crop:
            return None
        filter = self.interpolation or "bilinear"
        return Preprocessing(resize=self.resize or None, crop=self.crop or None, interpolation=filter)

    def to_toml(self) -> str:
        """The configuration as a TOML file that ``train.config_file.load`` reads back to an equal one."""
        return as_toml({key: value for key, value in dataclasses.asdict(self).items() if value != {}})


def refuse_idle(config: Any, when: str, *keys: str) -> None:
    """Raise ``ValueError`` if a configuration sets keys that are only read ``when`` something is, which is not."""
    defaults = {field.name: default(field) for field in dataclasses.fields(config)}
    for key in keys:
        value = getattr(config, key)
        if value != defaults[key]:
            raise ValueError(f"{key} = {value!r} has no effect: it is read {when}; leave it out.")


def default(field: dataclasses.Field[Any]) -> Any:
    """The default of a field; ``MISSING`` if it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def as_toml(values: Mapping[str, object]) -> str:
    """Strings, numbers, booleans, lists and tables of them as the lines of a TOML file."""
    lines = (f"{key} = {_toml(value)}\n" for key, value in values.items())
    return "".join(lines).replace("\x7f", "\\u007f")


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return (
            "{"
            + ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {_toml(part)}" for key, part in value.items())
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # which is TOML's, but for one character


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of a network that a configuration cannot hold, or that it says elsewhere."""
    taken = sorted(options.keys() & {"arch", "image_shape", "num_classes", "mean", "std", "shortcut"})
    _require(not taken, f"arch_options has {', '.join(taken)}, which the configuration or the data set says already.")
    values = list[object](options.values())
    while values:
        value = values.pop()
        if isinstance(value, list | Mapping):
            values.extend(value.values() if isinstance(value, Mapping) else value)
            continue
        plain = isinstance(value, str | bool) or (isinstance(value, int) and abs(value) < 2**63)
        if not plain and not (isinstance(value, float) and math.isfinite(value)):
            raise ValueError(
                f"arch_options holds finite numbers, strings, booleans, lists and tables, got {value!r:.99}."
            )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _choice(name: str, value: str, valid: tuple[str, ...]) -> None:
    _require(value in valid, f"{name} must be one of {', '.join(valid)}, got {value!r}.")
