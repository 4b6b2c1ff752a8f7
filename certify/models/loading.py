"""Loads the model to certify: a checkpoint of this package, a Python factory, or another project's file or library.

This is the only module of ``certify`` that imports ``train``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import nn

from maxup_smoothing.certify.models.adapters import (
    ANY_BATCH,
    ArrayFunction,
    ForeignModel,
    exported_program,
    onnx_model,
    program,
)
from maxup_smoothing.certify.models.batch_sizes import accepted
from maxup_smoothing.certify.models.classes import fitted
from maxup_smoothing.certify.models.classifier import require_evaluation_mode
from maxup_smoothing.certify.models.ensemble import Ensemble, members_of
from maxup_smoothing.certify.models.normalizations import NORMALIZATIONS, Normalization, normalization, settled
from maxup_smoothing.certify.models.weight_files import WeightFile, is_program
from maxup_smoothing.certify.models.weights import Undecided, Weights, weights_of
from maxup_smoothing.data import preprocessing
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.preprocessing import Preprocessing
from maxup_smoothing.train import checkpoint, models
from maxup_smoothing.train.checkpoint import Architecture, require_plain_archive
from maxup_smoothing.train.models import factories, hub
from maxup_smoothing.train.models.normalize import Normalize

CHECKPOINT = "checkpoint.safetensors"  # name of the checkpoint in a run folder
#: Endings of files that hold another project's weights; a `.safetensors` file may hold them, too.
WEIGHT_FILES = (".pth", ".tar", ".pt", ".th", ".bin", ".ckpt")
_MOST_CLASSES = 100_000
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model and what is known about it.

    Attributes:
        model: The network, in evaluation mode, on the CPU or where its factory put it.
        num_classes: Number of logits.
        sigma: Standard deviation of the noise in training, in [0, 1] pixel units; None if unknown.
        source: Where the model comes from, for the manifest.
        batch_sizes: Smallest and largest batch that the model accepts.
        config: The training configuration, {} if unknown.
        notes: What a user should know about how the model was read, one line each.
        classes: Names of the classes in the order of the logits, where the checkpoint, file or library tells them.
        foreign: What is known about a program or an ONNX file; None for other models.
    """

    model: nn.Module
    num_classes: int
    sigma: float | None = None
    source: dict[str, Any]
    batch_sizes: tuple[int, int] = ANY_BATCH
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    classes: tuple[str, ...] = ()
    foreign: ForeignModel | None = None


def load(
    name: str,
    image_shape: Sequence[int],
    num_classes: int,
    *,
    arch: str | None = None,
    normalize: str | None = None,
    otherwise: str | None = None,
    weights: str | None = None,
    batch_size: int | None = None,
    options: Callable[[str], str] = "--{}".format,
    device: torch.device = _CPU,
    dataset: Dataset | None = None,
) -> LoadedModel:
    """Load a model and try it on a few grey images of the data set's shape.

    Args:
        name: A checkpoint of this package (``.safetensors``, or its run folder); ``package.module:factory`` or
            ``file.py:factory``, a callable without arguments that returns an ``nn.Module`` or a function of arrays (see
            ``models.adapters``); a program of ``torch.export`` (``.pt2``) or TorchScript (``.pt``); an ``.onnx`` file;
            ``timm:NAME`` or ``torchvision:NAME``; ``hf:FOLDER``, a local folder of transformers; or weights of another
            project (``.pth``, ``.ckpt``, ``.safetensors`` …). ``A+B`` is the mean of the logits of such models, and
            ``probabilities:A+B`` that of their probabilities; the further arguments hold for each member.
        image_shape: Shape (C, H, W) of the data set's images.
        num_classes: Number of classes of the data set; the model must have as many. 0 if unknown: the images have no
            labels, or a class map numbers the classes as the model does.
        arch: Architecture of another project's weights: what ``train.models.build`` takes, such as ``resnet110``,
            ``timm:NAME`` or ``file.py:factory``.
        normalize: Normalisation to put in front of the model; see ``certify.models.normalizations``.
        otherwise: Normalisation for another project's weights, if neither ``normalize`` nor their file states one.
        weights: Which set to take from a file with several sets of weights: ``ema``, ``raw``, or the name of a set.
        batch_size: Number of rows of a forward pass, with which the model is tried; None if not known yet.
        options: Spells an option as the user writes it, for messages: from ``arch`` to ``--arch``.
        device: Where the model will run. Some kinds must know it when they are loaded; others are moved there later.
        dataset: The data set, for messages that explain why the classes do not fit.

    Raises:
        ValueError: If the model cannot be loaded, does not take such images, or has other classes; with the fix.
        OSError: If a file does not exist, or weights cannot be downloaded.
    """
    mean, members = members_of(name)
    if len(members) > 1:
        common: dict[str, Any] = {"arch": arch, "normalize": normalize, "otherwise": otherwise, "weights": weights}
        common |= {"batch_size": batch_size, "options": options, "device": device, "dataset": dataset}
        return _combined(mean, members, [load(member, image_shape, num_classes, **common) for member in members])
    path = _in_folder(Path(name)) if Path(name).is_dir() else Path(name)
    asked = _Asked(image_shape, num_classes, arch, normalize, otherwise, weights, options)
    script = path.suffix in WEIGHT_FILES and is_program(path)
    others = holds_weights_of_others(path)
    for option, value in (("arch", arch), ("weights", weights)):
        if value is not None and (script or not others) and (path.exists() or ":" in name):
            raise ValueError(
                f"{options(option)} is only for files that hold nothing but weights; {name} also describes its model, "
                "so leave the option out."
            )
    if script:
        loaded = _from_file("torchscript", program(path, num_classes), asked)
    elif others:
        loaded = _from_weights(path, asked)
    elif path.suffix == ".safetensors":
        loaded = _from_checkpoint(path, asked)
    elif path.suffix == ".onnx":
        loaded = _from_file("onnx", onnx_model(path, image_shape, num_classes, device), asked)
    elif path.suffix == ".pt2":
        loaded = _from_file("torch.export", exported_program(path, device), asked)
    elif hub.is_name(name):
        loaded = _from_zoo(name, asked)
    elif factories.is_name(name):
        loaded = _from_factory(name, asked)
    else:
        raise ValueError(
            f"{name!r} is not a model: give a .safetensors checkpoint or its run folder, package.module:factory, an "
            ".onnx or .pt2 file, timm:NAME, torchvision:NAME, hf:FOLDER, or a "
            f"{' or '.join(WEIGHT_FILES[:2])} file with --arch."
        )
    found = accepted(loaded.model, image_shape, loaded.batch_sizes, batch_size, options("batch-size"))
    notes = (f"{name} takes one image at a time, so it runs at batch size 1",) if found.narrowed else ()
    loaded = replace(loaded, num_classes=found.classes, batch_sizes=found.sizes, notes=(*loaded.notes, *notes))
    if len(loaded.classes) != loaded.num_classes:
        loaded = replace(loaded, classes=())
    return fitted(loaded, name, num_classes, dataset)


def trained_on(name: str) -> str:
    """The name of the data set that a checkpoint of this package was trained on.

    Raises:
        ValueError: If ``name`` is another kind of model, or does not exist.
    """
    if len(members := members_of(name)[1]) > 1:
        return _same("was trained on the data set", {member: trained_on(member) for member in members})
    path = _in_folder(Path(name)) if Path(name).is_dir() else Path(name)
    if not path.exists() and ":" not in name:
        raise ValueError(f"there is no file or folder {name}; name a run folder, a model's file, or module:factory.")
    if path.suffix != ".safetensors" or (path.exists() and not _is_ours(path)):
        raise ValueError(f"{name} does not say what data it was trained on; pass --data.")
    dataset = checkpoint.load(path).metadata.get("config", {}).get("dataset")
    if not isinstance(dataset, str):
        raise ValueError(f"{path} does not say what data it was trained on; pass --data.")
    return dataset


def trained_for(name: str) -> Architecture | None:
    """What a checkpoint of ours takes and returns; None if ``name`` is another kind of model.

    Raises:
        ValueError: If the checkpoint cannot be read.
        OSError: If there is no file of that name.
    """
    if len(members := members_of(name)[1]) > 1:
        return trained_for(members[0])  # `load` compares it with the others
    path = _in_folder(Path(name)) if Path(name).is_dir() else Path(name)
    if path.suffix != ".safetensors" or (path.exists() and not _is_ours(path)):
        return None
    return checkpoint.load(path).architecture


def trained_with(name: str) -> Preprocessing | None:
    """How images of any size were prepared for a checkpoint of ours in training; None if they were not, or of others.

    Raises:
        ValueError: If its configuration makes no sense.
    """
    if len(members := members_of(name)[1]) > 1:
        return _same("was trained on images", {member: trained_with(member) for member in members})
    path = Path(name) / CHECKPOINT if Path(name).is_dir() else Path(name)
    if path.suffix != ".safetensors" or not path.is_file() or not _is_ours(path):
        return None
    found = checkpoint.load(path)
    config = found.metadata.get("config", {})
    told = {key: config[key] for key in ("resize", "crop", "interpolation") if config.get(key)}
    if not told.keys() & {"resize", "crop"}:
        return None
    return preprocessing.recorded({**told, "grayscale": found.architecture.image_shape[0] == 1}, str(path))


def declared(name: str) -> Preprocessing | None:
    """How the library of a network prepares images for it; None for another model.

    Raises:
        ValueError: As ``load``, or if the library prepares them in a way that is not known here.
    """
    if len(members := members_of(name)[1]) > 1:
        return _same("takes images", {member: declared(member) for member in members})
    return hub.declared(name) if hub.is_name(name) else None


def files_of(name: str) -> list[Path]:
    """The files and folders that a name of a model names: one, or one a member of an ensemble."""
    return [Path(member) / CHECKPOINT if Path(member).is_dir() else Path(member) for member in members_of(name)[1]]


def _same(what: str, by_member: Mapping[str, Any]) -> Any:
    """What all members of an ensemble have in common."""
    (first, value), *others = by_member.items()
    for member, other in others:
        if other != value:
            raise ValueError(f"{first} {what} {value}, and {member} {other}; the members of an ensemble must agree.")
    return value


def _combined(mean: str, names: Sequence[str], members: Sequence[LoadedModel]) -> LoadedModel:
    """An ensemble of loaded models."""
    for name, member in zip(names, members, strict=True):
        if isinstance(member.model, ArrayFunction) or member.foreign is not None:
            raise ValueError(f"{name} cannot be a member of an ensemble, only networks can; combine it in a factory.")
    named = dict(zip(names, members, strict=True))
    number = _same("has classes, in number,", {name: one.num_classes for name, one in named.items()})
    told_classes = {name: one.classes for name, one in named.items() if one.classes}
    sigmas = {one.sigma for one in members}
    first = members[0].config
    return LoadedModel(
        model=Ensemble([one.model for one in members], mean),
        num_classes=number,
        sigma=members[0].sigma if len(sigmas) == 1 else None,
        source={"kind": "ensemble", "mean": mean, "members": [one.source for one in members]},
        batch_sizes=(max(one.batch_sizes[0] for one in members), min(one.batch_sizes[1] for one in members)),
        config={key: value for key, value in first.items() if all(one.config.get(key) == value for one in members)},
        notes=[note for one in members for note in one.notes],
        classes=_same("has the classes", told_classes) if told_classes else (),
    )


@dataclass(frozen=True)
class _Asked:
    """The caller's requirements for a model; see the arguments of ``load``."""

    image_shape: Sequence[int]
    num_classes: int
    arch: str | None
    normalize: str | None
    otherwise: str | None
    weights: str | None
    options: Callable[[str], str]


def _in_folder(folder: Path) -> Path:
    """The path of a run folder's checkpoint."""
    if (folder / CHECKPOINT).is_file():
        return folder / CHECKPOINT
    files = sorted(file.name for file in folder.iterdir() if file.suffix in (*WEIGHT_FILES, ".safetensors", ".onnx"))
    hint = f"it holds {', '.join(files[:4])}: name the file" if files else "name a run folder, or a model's file"
    raise ValueError(f"{folder} is a folder without {CHECKPOINT}; {hint}.")


def holds_weights_of_others(path: Path) -> bool:
    """Whether this is a file of another project's weights: by its ending, or for ``.safetensors`` by its metadata."""
    return path.suffix in WEIGHT_FILES or (path.suffix == ".safetensors" and not _is_ours(path))


def _is_ours(path: Path) -> bool:
    """Whether our training wrote this file. Also True if damaged or missing: our reader then says what is wrong."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return bool({checkpoint.METADATA, checkpoint.LANGUAGE} & (file.metadata() or {}).keys())
    except (safetensors.SafetensorError, OSError):
        return True


def _from_checkpoint(path: Path, asked: _Asked) -> LoadedModel:
    if asked.normalize is not None:
        raise ValueError(f"{path} holds the normalisation of its training; leave {asked.options('normalize')} out.")
    loaded = checkpoint.load(path)
    expected = loaded.architecture.image_shape
    if tuple(asked.image_shape) != expected:
        wanted, given = ("x".join(map(str, shape)) for shape in (expected, asked.image_shape))
        raise ValueError(
            f"{path} takes {wanted} images, the data set has {given}; "
            f"it was trained on {loaded.metadata.get('config', {}).get('dataset', 'another data set')}."
        )
    config = loaded.metadata.get("config", {})
    return LoadedModel(
        model=loaded.model,
        num_classes=asked.num_classes,
        sigma=config.get("sigma"),
        source={"kind": "checkpoint", "arch": loaded.architecture.arch, "epoch": loaded.metadata.get("epoch")},
        config=config,
        classes=loaded.classes,
    )


def _from_file(kind: str, found: ForeignModel, asked: _Asked) -> LoadedModel:
    require_evaluation_mode(found.model)
    source = {"kind": kind, "sha256": found.sha256}
    known: dict[str, Any] = {"batch_sizes": found.batch_sizes, "classes": found.classes, "foreign": found}
    if found.pixels is None:
        return _in_front(found.model, source, asked, **known)
    if asked.normalize not in (None, "none"):
        raise ValueError(f"the model takes {found.pixels} pixels; leave {asked.options('normalize')} out.")
    source["pixels"] = found.pixels
    return _in_front(found.model, source, asked, notes=(found.pixels_text,), **known)


def _from_zoo(name: str, asked: _Asked) -> LoadedModel:
    network = hub.pretrained(name)
    own = (tuple(network.mean), tuple(network.std))
    pair = own if asked.normalize is None else normalization(asked.normalize)
    notes = () if pair == own else (f"{name} has its own normalisation, which --normalize replaces",)
    source = {"kind": "library", "name": name, "normalize": [list(part) for part in pair]}
    model = _normalized(network.model, pair, asked.image_shape)
    return LoadedModel(model=model, num_classes=asked.num_classes, source=source, notes=notes, classes=network.classes)


def _from_factory(name: str, asked: _Asked) -> LoadedModel:
    model, notes = factories.made(name)
    if not callable(model):
        raise ValueError(
            f"{name}() must return an nn.Module, or a function of arrays, got {type(model).__name__}; name a factory, "
            "not the function itself."
        )
    if not isinstance(model, nn.Module):
        model = ArrayFunction(model, asked.num_classes)
    require_evaluation_mode(model)
    return _in_front(model, {"kind": "factory", "factory": name.removeprefix("./")}, asked, notes=tuple(notes))


def weight_file(path: Path) -> WeightFile:
    """Another project's weights.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If the file is damaged or holds more than weights.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}.")
    try:
        require_plain_archive(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged or not a PyTorch file ({error}).") from error
    return WeightFile(path)


def told(path: Path, found: Weights) -> list[str]:
    """What a user should know of how weights were read, a line each."""
    notes = []
    if found.name is not None:
        notes.append(f"{path}: the weights {found.name} are used")
    if found.unused:
        notes.append(f"{path}: not used are {', '.join(found.unused[:4])}{' …' * (len(found.unused) > 4)}")
    if found.place:
        notes.append(f"{path}: its normalisation is used ({found.place})")
    return notes


def _from_weights(path: Path, asked: _Asked) -> LoadedModel:
    if path.is_file() and asked.arch is None:
        option = asked.options("arch")
        raise ValueError(f"{path} holds weights only; name their architecture with {option} NAME, such as resnet110.")
    file = weight_file(path)
    try:
        return _with_weights(file, asked)
    except Undecided:
        raise
    except ValueError:
        # The number of classes may differ from the data set's: try the length of the last tensor, the last layer's
        # bias. If that network loads, `fitted` explains the difference.
        last = next((tensor for part in file.parts.values() for tensor in reversed(part.values()) if tensor.ndim), None)
        if last is None or len(last) in (0, asked.num_classes) or len(last) > _MOST_CLASSES:
            raise
        try:
            return _with_weights(file, replace(asked, num_classes=len(last)))
        except ValueError:
            pass
        raise


def _with_weights(file: WeightFile, asked: _Asked) -> LoadedModel:
    """A network of the architecture and number of classes asked for, with the weights of a file."""
    path, arch, option = file.path, asked.arch or "", asked.options
    if not asked.num_classes:
        raise ValueError(
            f"the number of classes of {path} is not known: the images have no labels, or a class map numbers them. "
            "Build the network in a factory, and name that."
        )
    default = normalization(asked.otherwise or "none")
    channels, height, width = asked.image_shape
    foreign = models.is_foreign(arch)
    if foreign:
        empty = models.network(arch, asked.image_shape, asked.num_classes)
        network = empty.model
        default = default if asked.otherwise is not None else (tuple(empty.mean), tuple(empty.std))
    else:
        shortcut = "conv" if any(".downsample." in name for name in file.names) else "pad"
        architecture = Architecture(
            arch=arch,
            image_shape=(channels, height, width),
            num_classes=asked.num_classes,
            options={"shortcut": shortcut} if arch.startswith("resnet") else {},  # "pad" shortcuts have no weights
        )
        model = architecture.build()
        network = model.get_submodule("backbone")
    what = f"{arch} with {asked.num_classes} classes"
    found = weights_of(file, network, what, channels=channels, wanted=asked.weights, option=option("weights"))
    given = None if asked.normalize is None else normalization(asked.normalize)
    mean, std = settled(file, found.normalization, found.place, given, default, channels, option=option("normalize"))
    network.load_state_dict(found.state)
    if foreign:
        model = _normalized(network, (mean, std), asked.image_shape)
    else:
        model.set_submodule("normalize", Normalize(mean, std, channels))
    source: dict[str, Any] = {"kind": "weights", "arch": arch, "normalize": [list(mean), list(std)]}
    if found.name is not None:
        source["weights"] = found.name
    if found.place:
        source["normalize_from"] = found.place
    notes = told(path, found)
    return LoadedModel(model=model.eval(), num_classes=asked.num_classes, source=source, notes=notes)


def _in_front(model: nn.Module, source: dict[str, Any], asked: _Asked, **known: Any) -> LoadedModel:
    """The model, with the normalisation that was asked for as its first layer."""
    if asked.normalize is not None and (pair := normalization(asked.normalize)) != NORMALIZATIONS["none"]:
        model = _normalized(model, pair, asked.image_shape)
        source = {**source, "normalize": [list(part) for part in pair]}
    return LoadedModel(model=model, num_classes=asked.num_classes, source=source, **known)


def _normalized(network: nn.Module, pair: Normalization, image_shape: Sequence[int]) -> nn.Module:
    first = Normalize(*pair, image_shape[0])
    if isinstance(network, ArrayFunction):
        return network.after(lambda x_BCHW: first(torch.from_numpy(x_BCHW)).numpy())
    place = next(network.parameters(), torch.zeros(()))
    whole = nn.Sequential(first.to(place.device), network)
    for module in (whole, first):
        module.training = False  # not by eval(), which exported programs do not support
    return whole
