"""Where a model comes from: a checkpoint of ours, a factory in Python, a file or a library of others.

The only module of ``certify`` that knows ``train``.
"""

import importlib
import importlib.util
import math
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from certify import zoo
from certify.classes import fitted, names_told
from certify.classifier import probe, require_evaluation_mode
from certify.foreign import ANY_BATCH, ArrayFunction, ForeignModel, exported_program, onnx_model
from data.dataset import Dataset
from train import checkpoint
from train.checkpoint import Architecture, require_plain_archive
from train.models.normalize import Normalize

#: Normalisations of other projects' models, mean and standard deviation a channel, by the name `--normalize` takes.
NORMALIZATIONS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "none": ((0.0,), (1.0,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
CHECKPOINT = "checkpoint.safetensors"  # in a run folder
#: Endings of files that hold another project's weights.
WEIGHT_FILES = (".pth", ".tar", ".pt", ".th", ".bin")
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model and what is known of it.

    Attributes:
        model: In evaluation mode, on the CPU or where its factory put it.
        num_classes: Number of logits.
        sigma: The noise it was trained with; None if unknown.
        source: For the manifest.
        batch_sizes: Smallest and largest batch that it accepts.
        config: With which it was trained, {} if unknown.
        classes: Their names, of a checkpoint that tells them.
        foreign: What is known of a program or an ONNX file.
    """

    model: nn.Module
    num_classes: int
    sigma: float | None
    source: dict[str, Any]
    batch_sizes: tuple[int, int] = ANY_BATCH
    config: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    foreign: ForeignModel | None = None


def load(
    name: str,
    image_shape: Sequence[int],
    num_classes: int,
    *,
    arch: str | None = None,
    normalize: str | None = None,
    device: torch.device = _CPU,
    dataset: Dataset | None = None,
) -> LoadedModel:
    """Load a model and show it one image of the data set.

    Args:
        name: A checkpoint of ours (``.safetensors``, or its run folder); ``package.module:factory``, a callable without
            arguments that returns an ``nn.Module`` or a function of arrays (see ``certify.foreign``); a program of
            ``torch.export`` (``.pt2``); an ``.onnx`` file; ``timm:NAME`` or ``torchvision:NAME``; or weights of another
            project (``.pth``, ``.pth.tar``, ``.pt``).
        image_shape: (C, H, W) of the data set's images.
        num_classes: Of the data set; the model must have as many. 0 if nothing says it: of images without labels, or
            of classes that are numbered as the model's by a class map.
        arch: For weights of another project: a name in ``train.models``, ``timm:NAME`` or ``torchvision:NAME``.
        normalize: For the same: a name in ``NORMALIZATIONS``, or ``MEAN/STD`` with numbers separated by commas.
        device: Where it will run, for the kinds that must know it at once; others are moved there later.
        dataset: To say why the classes are others.

    Raises:
        ValueError: If it cannot be loaded, does not take such images, or has other classes; with the fix.
        OSError: If a file does not exist, or weights cannot be downloaded.
    """
    path = Path(name)
    if path.is_dir():
        path = path / CHECKPOINT
    foreign = path.suffix in WEIGHT_FILES
    if not foreign and (arch or normalize):
        raise ValueError(f"--arch and --normalize are for {', '.join(WEIGHT_FILES)} files; {name} says itself.")
    if foreign:
        loaded = _from_weights(path, image_shape, num_classes, arch, normalize)
    elif path.suffix == ".safetensors":
        loaded = _from_checkpoint(path, image_shape)
    elif path.suffix == ".onnx":
        loaded = _from_file("onnx", onnx_model(path, image_shape, num_classes, device), image_shape)
    elif path.suffix == ".pt2":
        loaded = _from_file("torch.export", exported_program(path, device), image_shape)
    elif zoo.is_name(name):
        loaded = _from_zoo(name, image_shape)
    elif ":" in name:
        loaded = _from_factory(name, image_shape, num_classes)
    else:
        raise ValueError(
            f"{name!r} is no model: give a .safetensors checkpoint or its run folder, package.module:factory, an .onnx "
            f"or .pt2 file, timm:NAME, torchvision:NAME, or a {' or '.join(WEIGHT_FILES[:2])} file with --arch."
        )
    return fitted(loaded, name, num_classes, dataset)


def trained_on(name: str) -> str:
    """The data set that a checkpoint of ours was trained on.

    Raises:
        ValueError: If ``name`` is another kind of model.
    """
    path = Path(name)
    path = path / CHECKPOINT if path.is_dir() else path
    if not path.exists() and ":" not in name:
        raise ValueError(f"there is no file or folder {name}; name a run folder, a model's file, or module:factory.")
    if path.suffix != ".safetensors":
        raise ValueError(f"{name} does not say what data it was trained on; pass --data.")
    dataset = checkpoint.load(path).metadata.get("config", {}).get("dataset")
    if not isinstance(dataset, str):
        raise ValueError(f"{path} does not say what data it was trained on; pass --data.")
    return dataset


def _from_checkpoint(path: Path, image_shape: Sequence[int]) -> LoadedModel:
    loaded = checkpoint.load(path)
    expected = loaded.architecture.image_shape
    if tuple(image_shape) != expected:
        raise ValueError(
            f"{path} takes {_shape(expected)} images, the data set has {_shape(image_shape)}; "
            f"it was trained on {loaded.metadata.get('config', {}).get('dataset', 'another data set')}."
        )
    config = loaded.metadata.get("config", {})
    source = {"kind": "checkpoint", "arch": loaded.architecture.arch, "epoch": loaded.metadata.get("epoch")}
    return LoadedModel(
        model=loaded.model,
        num_classes=probe(loaded.model, image_shape),
        sigma=config.get("sigma"),
        source=source,
        config=config,
        classes=names_told(loaded.metadata.get("classes"), loaded.architecture.num_classes),
    )


def _from_file(kind: str, found: ForeignModel, image_shape: Sequence[int]) -> LoadedModel:
    return LoadedModel(
        model=found.model,
        num_classes=probe(found.model, image_shape, found.batch_sizes),
        sigma=None,
        source={"kind": kind, "sha256": found.sha256},
        batch_sizes=found.batch_sizes,
        foreign=found,
    )


def _from_zoo(name: str, image_shape: Sequence[int]) -> LoadedModel:
    network = zoo.pretrained(name)
    model = _normalized(network.model, network.mean, network.std, image_shape)
    source = {"kind": "library", "name": name, "normalize": [list(network.mean), list(network.std)]}
    return LoadedModel(model=model, num_classes=probe(model, image_shape), sigma=None, source=source)


def _normalized(
    network: nn.Module, mean: Sequence[float], std: Sequence[float], image_shape: Sequence[int]
) -> nn.Module:
    return nn.Sequential(Normalize(mean, std, image_shape[0]), network).eval()


def _from_factory(name: str, image_shape: Sequence[int], num_classes: int) -> LoadedModel:
    module_name, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))  # at the end: a user's train.py or data/ must not shadow ours
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"cannot import {module_name!r} ({error}); run from the folder that holds it.") from error
    except Exception as error:  # whatever a user's module raises is the user's to mend
        raise ValueError(f"importing {module_name!r} failed: {type(error).__name__}: {error}") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise ValueError(f"{module_name} has no callable {attribute!r}; give package.module:factory.")
    try:
        model = factory()
    except Exception as error:
        raise ValueError(f"{name}(), called without arguments, failed: {type(error).__name__}: {error}") from error
    if not callable(model):
        raise ValueError(
            f"{name}() must return an nn.Module, or a function of arrays, got {type(model).__name__}; name a factory, "
            "not the function itself."
        )
    if not isinstance(model, nn.Module):
        model = ArrayFunction(model, num_classes)
    require_evaluation_mode(model)
    return LoadedModel(
        model=model,
        num_classes=probe(model, image_shape),
        sigma=None,
        source={"kind": "factory", "factory": name},
    )


def _from_weights(
    path: Path, image_shape: Sequence[int], num_classes: int, arch: str | None, normalize: str | None
) -> LoadedModel:
    if arch is None:
        raise ValueError(f"{path} holds weights only; say of what with --arch, such as --arch resnet110.")
    state = _without_prefixes(_read_state(path))
    last = next((tensor for tensor in reversed(state.values()) if tensor.ndim), torch.zeros(0))
    num_classes = len(last) if 0 < len(last) < 100_000 else num_classes  # the network's, as its last layer says
    if zoo.is_name(arch):
        empty = zoo.untrained(arch, num_classes)
        mean, std = (empty.mean, empty.std) if normalize is None else normalization(normalize)
        network, model = empty.model, _normalized(empty.model, mean, std, image_shape)
    else:
        mean, std = normalization(normalize or "none")
        state = {f"fc.{name[7:]}" if name.startswith("linear.") else name: value for name, value in state.items()}
        options = {}
        if arch.startswith("resnet"):  # shortcuts without parameters leave no name behind
            options["shortcut"] = "conv" if any(".downsample." in key for key in state) else "pad"
        shape = (image_shape[0], image_shape[1], image_shape[2])
        architecture = Architecture(arch=arch, image_shape=shape, num_classes=num_classes, options=options)
        model = architecture.build(mean, std)
        network = model.get_submodule("backbone")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        summary = " ".join(str(error).split())[:400]
        raise ValueError(
            f"the weights in {path} are not those of {arch} with {num_classes} classes: {summary}"
        ) from error
    model.eval()
    source = {"kind": "weights", "arch": arch, "normalize": [list(mean), list(std)]}
    return LoadedModel(model=model, num_classes=probe(model, image_shape), sigma=None, source=source)


def _read_state(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}.")
    try:
        require_plain_archive(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged, or a pickle that holds more than weights, which could run code and is refused; "
            "save model.state_dict() alone."
        ) from error
    except Exception as error:  # the unpickler and the archive's reader fail in whatever way the damage asks for
        raise ValueError(f"{path} is damaged or not a PyTorch file ({' '.join(str(error).split())[:120]}).") from error
    for key in ("state_dict", "net", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    tensors = {str(key): value for key, value in found.items()} if isinstance(found, Mapping) else {}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"{path} holds no state_dict (names with tensors); save model.state_dict() alone.")
    return tensors


def _without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as the network's own: without those of DataParallel and of a normalisation put in front."""
    cleaned = {}
    for name, tensor in state.items():
        parts = [part for part in name.split(".") if part != "module"]
        if len(parts) > 2 and parts[0] == "1":  # Sequential(normalisation, network) of Cohen et al.
            parts = parts[1:]
        if parts[0] != "0":  # the normalisation's own buffers, where there are any; ours come from --normalize
            cleaned[".".join(parts)] = tensor
    return cleaned


def normalization(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel, of a name in `NORMALIZATIONS` or of MEAN/STD."""
    if text in NORMALIZATIONS:
        return NORMALIZATIONS[text]
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split("/"))
        if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"--normalize must be one of {', '.join(NORMALIZATIONS)} or MEAN/STD such as 0.5/0.25, finite and STD "
            f"positive, got {text[:200]!r}."
        ) from None
    return mean, std


def _shape(image_shape: Sequence[int]) -> str:
    return "x".join(map(str, image_shape))
