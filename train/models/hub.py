"""Networks of timm, torchvision and transformers by name, with the normalisation that they declare."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from maxup_smoothing.data.preprocessing import INTERPOLATIONS, Preprocessing
from maxup_smoothing.data.runtime import strict_json

#: Words in front of a name, and the packages that they stand for.
PACKAGES: Mapping[str, str] = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers"}
CONFIG = "config"  # an option of networks of transformers: what their config.json says
_LARGEST = 1_000_000  # bytes of a config.json
#: Options that would load weights or code, or that say again what the images and classes are.
_TAKEN = frozenset((
    "pretrained", "weights", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "model_name",
    "num_classes", "in_chans", "num_labels", "num_channels",
))  # fmt: skip
#: Keys of a config.json that are not of the network's structure; some make transformers fetch kernels.
_NOT_STRUCTURE = ("id2label", "label2id", "attn_implementation", "quantization_config", "dtype", "torch_dtype")


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode, and what it declares of its images.

    Attributes:
        model: The network.
        mean: Of each channel, subtracted first.
        std: Of each channel, divided by afterwards.
        size: Height and width, where it takes images of one size alone.
        classes: Names of the classes that its weights tell apart, in the order of the logits; empty if not known.
    """

    model: nn.Module
    mean: Sequence[float]
    std: Sequence[float]
    size: tuple[int, int] | None = None
    classes: tuple[str, ...] = ()


def is_name(name: str) -> bool:
    """Whether this is ``timm:NAME``, ``torchvision:NAME`` or ``hf:FOLDER``."""
    library, colon, network = name.partition(":")
    return library in PACKAGES and bool(colon and network)


def pretrained(name: str) -> Network:
    """A network with weights: its library's own, downloaded once by that library, or those in a folder.

    Args:
        name: ``timm:NAME`` (``timm.list_pretrained()``), ``torchvision:NAME`` (``torchvision.models.list_models()``) or
            ``hf:FOLDER``, where ``save_pretrained`` of transformers has left a classifier of images.

    Raises:
        ValueError: If the library is not installed or does not know the name, or a folder lacks weights.
        OSError: If the weights cannot be downloaded.
    """
    if name.startswith("hf:"):
        network, missing = _from_folder(name)
        if missing:
            raise ValueError(f"{name} lacks the weights {', '.join(missing[:4])}; train it, or name another folder.")
        return network
    return _timm(name, pretrained=True) if name.startswith("timm:") else _torchvision(name, num_classes=None)


def untrained(name: str, num_classes: int, channels: int = 3, options: Mapping[str, Any] | None = None) -> Network:
    """The same network with random weights and that many classes.

    Args:
        name: As ``pretrained`` takes it.
        num_classes: Number of logits.
        channels: Of the images.
        options: Of the network, as its library calls them.

    Raises:
        ValueError: As ``pretrained``, or if the network does not take the options or so many channels.
    """
    given = dict(options or {})
    if taken := sorted(_TAKEN & given.keys()):
        raise ValueError(f"{name} does not take the option {taken[0]!r}: init names weights, the data set the rest.")
    if name.startswith("hf:"):
        return _of_config(name, num_classes, channels, given)
    if name.startswith("timm:"):
        shape = {} if channels == 3 else {"in_chans": channels}
        return _timm(name, pretrained=False, num_classes=num_classes, **shape, **given)
    if channels != 3:
        raise ValueError(f"{name} takes images of 3 channels, got {channels}; networks of timm take any number.")
    return _torchvision(name, num_classes=num_classes, **given)


def weights_in(name: str) -> tuple[dict[str, Tensor], tuple[str, ...]] | None:
    """The weights that ``pretrained`` loads, and the names of their classes; None if ``hf:FOLDER`` has none.

    Raises:
        ValueError: As ``pretrained``; but a classifier's head that ``hf:FOLDER`` lacks is left out.
        OSError: As ``pretrained``.
    """
    if not name.startswith("hf:"):
        network = pretrained(name)
        return network.model.state_dict(), network.classes
    if not _weight_files(_folder(name)):
        return None
    network, missing = _from_folder(name)
    found = {key: tensor for key, tensor in network.model.state_dict().items() if key not in missing}
    return found, network.classes


def described(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with which ``untrained`` builds the same network again, without the folder of ``hf:FOLDER``."""
    if not name.startswith("hf:") or CONFIG in options:
        return dict(options)
    return {**options, CONFIG: _structure(_config(name))}


def declared(name: str) -> Preprocessing:
    """How a network's library prepares images for it; nothing is downloaded.

    Args:
        name: As ``pretrained`` takes it.

    Raises:
        ValueError: As ``pretrained``, or if the images are not squares out of the centre.
    """
    if name.startswith("hf:"):
        size, mode, resize, interpolation = _processed(name, _processing(_folder(name)))
    elif name.startswith("timm:"):
        config = _timm_config(_timm_model(name, pretrained=False))
        size, mode = tuple(config["input_size"]), str(config.get("crop_mode", "center"))
        resize, interpolation = int(size[-1] / config.get("crop_pct", 1.0)), config.get("interpolation", "bilinear")
    else:
        transforms = _weights_of(name).transforms()
        crops, resizes = _flat(transforms.crop_size), _flat(transforms.resize_size)
        size, mode, resize = (3, crops[0], crops[-1]), "center" if len(resizes) == 1 else "another", resizes[0]
        interpolation = getattr(transforms.interpolation, "value", transforms.interpolation)
    if len(set(size[1:])) > 1 or mode != "center" or interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"{name} declares images of {'x'.join(map(str, size[1:]))} pixels, crop mode {mode}, interpolation "
            f"{interpolation}; only squares out of the centre are made here: pass --resize and --crop."
        )
    return Preprocessing(resize=resize, crop=size[-1], interpolation=interpolation, grayscale=size[0] == 1)


def _processed(name: str, processing: Mapping[str, Any]) -> tuple[tuple[int, ...], str, int, str]:
    """Shape, crop mode, shorter side and filter that a preprocessor_config.json of transformers declares."""
    told = processing.get("size", {})
    told = {"shortest_edge": told} if isinstance(told, int) else dict(told)
    size, crop = _size(told.get("shortest_edge") or list(told.values())), processing.get("crop_size")
    if size is None:
        raise ValueError(f"{name} has no preprocessor_config.json that says a size; pass --resize and --crop.")
    square = _size(list(crop.values()) if isinstance(crop, Mapping) else crop) or size
    cut = processing.get("do_center_crop", crop is not None) and "shortest_edge" in told
    filters = {filter.value: word for word, filter in INTERPOLATIONS.items()}
    filter = filters.get(processing.get("resample", 2), "another")
    return (3, *(square if cut else size)), "center" if "shortest_edge" in told else "stretched", size[0], filter


def _flat(number: Any) -> list[int]:
    return [number] if isinstance(number, int) else [int(value) for value in number]


def version(name: str) -> dict[str, str]:
    """The version of the library of a network."""
    package = PACKAGES[name.partition(":")[0]]
    return {package: str(getattr(_library(package), "__version__", "unknown"))}


def _timm(name: str, **options: Any) -> Network:
    model = _timm_model(name, **options)
    config = _timm_config(model)
    fixed = dict(getattr(model, "pretrained_cfg", {})).get("fixed_input_size", False) and "img_size" not in options
    size = tuple(config["input_size"][1:]) if fixed else None
    classes = _timm_classes(model) if options.get("pretrained") else ()
    return Network(model.eval(), config["mean"], config["std"], size, classes)


def _timm_classes(model: nn.Module) -> tuple[str, ...]:
    """What timm calls the classes of its weights: synsets for those of ImageNet."""
    data = _library("timm").data
    told = dict(getattr(model, "pretrained_cfg", {})).get("label_names")
    if not told and hasattr(data, "infer_imagenet_subset") and (subset := data.infer_imagenet_subset(model)):
        told = data.ImageNetInfo(subset).label_names()
    return tuple(map(str, told or ()))


def _timm_model(name: str, **options: Any) -> nn.Module:
    timm = _library("timm")
    with _built(name, options):
        try:
            model: nn.Module = timm.create_model(name.partition(":")[2], **options)
        except RuntimeError as error:
            raise ValueError(f"timm cannot make {name}: {error}") from error
    return model


def _timm_config(model: nn.Module) -> Mapping[str, Any]:
    config: Mapping[str, Any] = _library("timm").data.resolve_model_data_config(model)
    return config


def _torchvision(name: str, num_classes: int | None, **options: Any) -> Network:
    models = _library("torchvision").models
    network, weights = name.partition(":")[2], _weights_of(name)
    transforms = weights.transforms()
    if not hasattr(transforms, "mean"):
        raise ValueError(f"{name} is no classifier of images; see torchvision.models.list_models(torchvision.models).")
    with _built(name, options):
        if num_classes is None:
            model = models.get_model(network, weights=weights)
        else:
            model = models.get_model(network, weights=None, num_classes=num_classes, **options)
    size = _size(getattr(model, "image_size", None))
    classes = getattr(weights, "meta", {}).get("categories", ()) if num_classes is None else ()
    return Network(model.eval(), transforms.mean, transforms.std, size, tuple(classes))


def _weights_of(name: str) -> Any:
    """What torchvision tells of a network's own weights."""
    network = name.partition(":")[2]
    try:
        return _library("torchvision").models.get_model_weights(network).DEFAULT
    except ValueError as error:
        raise ValueError(f"torchvision has no network {network!r}; see torchvision.models.list_models().") from error


def _from_folder(name: str) -> tuple[Network, list[str]]:
    """A network of transformers with the weights in its folder, and the names of those that are not there."""
    folder = _folder(name)
    if not _weight_files(folder):
        raise ValueError(f"{folder} holds no weights (model.safetensors); save the network with save_pretrained.")
    _local(name, _config(name))
    with _quiet() as transformers, _built(name, {}):
        model, info = transformers.AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    names = [str(model.config.id2label.get(k)) for k in range(model.config.num_labels)]
    classes = () if names == [f"LABEL_{k}" for k in range(len(names))] else tuple(names)  # what it calls nameless ones
    return replace(_declared(model, _processing(folder)), classes=classes), sorted(info["missing_keys"])


def _of_config(name: str, num_classes: int, channels: int, options: dict[str, Any]) -> Network:
    """A network of transformers with random weights, from its folder's config.json or a copy of what that says."""
    said = _structure(options.pop(CONFIG, None) or _config(name))
    folder = Path(name.partition(":")[2])
    _local(name, said)
    with _quiet() as transformers, _built(name, options):
        kind = said.pop("model_type", None)
        if not isinstance(kind, str):
            raise ValueError(f"{name}: config.json does not name a model_type; save the network with save_pretrained.")
        config = transformers.AutoConfig.for_model(kind, **said)
        unknown = sorted(key for key in options if not hasattr(config, key))
        if unknown:
            raise ValueError(f"{name} does not take the options {unknown}; its options are the keys of config.json.")
        for key, value in options.items():
            setattr(config, key, value)
        config.num_labels = num_classes
        if hasattr(config, "num_channels"):
            config.num_channels = channels
        model = transformers.AutoModelForImageClassification.from_config(config)
    return _declared(model, _processing(folder) if folder.is_dir() else {})


def _structure(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _NOT_STRUCTURE and not key.startswith("_")}


def _declared(model: Any, processing: Mapping[str, Any]) -> Network:
    """A network of transformers with the normalisation of its preprocessor_config.json, in units of [0, 1]."""
    scale = 255 * float(processing.get("rescale_factor", 1 / 255)) if processing.get("do_rescale", True) else 255.0
    mean, std = [0.0], [1.0]
    if processing.get("do_normalize", True) and "image_mean" in processing and "image_std" in processing:
        mean, std = ([float(x) for x in processing[key]] for key in ("image_mean", "image_std"))
    fixed = _size(getattr(model.config, "image_size", None)) if hasattr(model.config, "patch_size") else None
    if scale != 1.0:  # (scale x - mean) / std
        mean, std = [x / scale for x in mean], [x / scale for x in std]
    return Network(model.float().eval(), mean, std, fixed)


def _size(told: Any) -> tuple[int, int] | None:
    if isinstance(told, int):
        return told, told
    return (int(told[0]), int(told[1])) if isinstance(told, list | tuple) and len(told) == 2 else None


def _folder(name: str) -> Path:
    folder = Path(name.partition(":")[2])
    if not (folder / "config.json").is_file():
        raise ValueError(f"{name}: there is no folder {folder} with config.json; make one with save_pretrained.")
    return folder


def _weight_files(folder: Path) -> list[Path]:
    names = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
    return [folder / name for name in names if (folder / name).is_file()]


def _config(name: str) -> dict[str, Any]:
    return _json(_folder(name) / "config.json")


def _processing(folder: Path) -> dict[str, Any]:
    path = folder / "preprocessor_config.json"
    return _json(path) if path.is_file() else {}


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path} has more than {_LARGEST:,} bytes, too many for a configuration.")
    try:
        found = strict_json.parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); save the network again with save_pretrained.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it holds no names and values; save the network with save_pretrained.")
    return found


def _local(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a folder that brings code of its own."""
    if "auto_map" in config:
        raise ValueError(f"{name} brings its own code, which is not run; write a factory, package.module:factory.")


@contextmanager
def _built(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Inside, what a library says of options or a configuration that it does not take becomes one line."""
    try:
        yield
    except (TypeError, AttributeError, KeyError, AssertionError, NotImplementedError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        if isinstance(error, ValueError) and said.startswith((name, f"timm cannot make {name}")):
            raise
        given = {key: value for key, value in options.items() if key not in ("pretrained", "num_classes", "in_chans")}
        if isinstance(error, TypeError) and given:
            raise ValueError(f"{name} does not take the options {sorted(given)}: {said}.") from error
        raise ValueError(f"{name} cannot be made ({type(error).__name__}: {said}).") from error


@contextmanager
def _quiet() -> Iterator[Any]:
    """transformers, without its progress bars and warnings; what is missing is looked at by us."""
    transformers = _library("transformers")
    talk = transformers.utils.logging
    level, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    try:
        yield transformers
    finally:
        talk.set_verbosity(level)
        if bars:
            talk.enable_progress_bar()


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{name} networks need {name} ({error}); install it with pip install 'maxup-smoothing[{name}]'."
        ) from error
    except RuntimeError as error:  # operators compiled for another torch
        raise ValueError(f"{name} does not fit this torch ({error}); install versions of the same release.") from error
