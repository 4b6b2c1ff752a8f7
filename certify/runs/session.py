"""From the arguments of a command to all that it needs, loaded and checked; nothing is written yet."""

import dataclasses
import platform
import secrets
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from maxup_smoothing.certify.distributed import shards, torchrun
from maxup_smoothing.certify.engine.guard import WatchedFile
from maxup_smoothing.certify.models import classes, loading
from maxup_smoothing.certify.models.adapters import ArrayFunction
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.models.tuning import compiled_if_faster, employ_workers, fastest_batch_size
from maxup_smoothing.certify.noise import NoiseSource
from maxup_smoothing.certify.noise.source import noise_source, noisy
from maxup_smoothing.certify.preflight import independence
from maxup_smoothing.certify.runs import device as devices
from maxup_smoothing.certify.runs import images
from maxup_smoothing.certify.runs.images import ImageOptions
from maxup_smoothing.certify.statistics.prediction import PredictionSettings
from maxup_smoothing.certify.statistics.procedure import ProcedureSettings
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.location import file_in
from maxup_smoothing.data import class_map, subset
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.runtime import console


@dataclass(frozen=True, kw_only=True)
class Request:
    """What ``certify run`` and ``certify predict`` are asked to open; ``certify.commands.options`` describes it.

    What changes f or the images goes into the manifest, too, and ``certify.runs.reopen`` reads it back.
    ``recorded`` is set where they come from a table's manifest, and its command has no options for them.
    """

    model: str
    data: str | None
    split: str
    protocol: str
    limit: int | None
    sigma: float | None
    dtype: str | None
    batch_size: int | None
    compile: str
    device: str
    noise: str
    seed: int | None
    out: Path | None
    overwrite: bool
    arch: str | None
    normalize: str | None
    data_root: Path | None
    check: bool = True
    shard: str | None = None
    randomized: bool = False
    weights: str | None = None
    class_map: Path | Mapping[str, int] | None = None
    images: ImageOptions = field(default_factory=ImageOptions)
    recorded: bool = False


@dataclass(frozen=True, kw_only=True)
class Session:
    """Everything loaded and checked; nothing written yet."""

    loaded: loading.LoadedModel
    classifier: BaseClassifier
    noise: NoiseSource
    seed: int
    dataset: Dataset
    indices: Sequence[int]
    sigma: float
    out: Path
    sources: Sequence[WatchedFile]
    manifest: dict[str, Any]


def open_session(
    request: Request,
    default_out: str,
    settings: ProcedureSettings | PredictionSettings | None,
    like: Mapping[str, Any] | None = None,
    processes: int = 1,
) -> Session:
    """Load and check everything.

    Args:
        request: What to certify.
        default_out: Name of the table where the request gives none.
        settings: How many samples an image will take, to judge if compiling pays; None if it is not worth a thought.
        like: The manifest of the first of several processes, which chooses what a request leaves open: the seed, the
            batch size, whether to compile. By default that of the table that will be continued, if there is one.
        processes: That share the images.

    Raises:
        ValueError: For anything in the request that does not fit; with the fix.
        OSError: If files cannot be read.
    """
    device = devices.device(request.device)
    name = request.data or loading.trained_on(request.model)
    sources = _sources(request.model, name)  # before they are read
    dataset = images.load(request, name, talks=like is None)
    for note in dataset.notes if like is None else ():  # of several processes the first one talks
        print(console.one_line(f"note: {note}"), file=sys.stderr)
    as_read = dataset
    described_mapping: dict[str, Any] = {}
    by_name = request.class_map == Path(classes.AUTO)
    if (mapping := request.class_map) is not None and not by_name:
        mapping = class_map.read(mapping) if isinstance(mapping, Path) else mapping
        dataset, described_mapping["class_map"] = class_map.renumbered(dataset, mapping)
    loaded = loading.load(
        request.model,
        dataset.images.shape[1:],
        0 if mapping is not None else dataset.num_classes,
        arch=request.arch,
        normalize=request.normalize,
        otherwise="cifar10" if name in ("cifar10", "cifar100") else None,
        weights=request.weights,
        batch_size=request.batch_size,
        device=device,
        dataset=None if by_name else dataset,
    )
    if by_name:
        loaded, told = classes.by_name(loaded, request.model, dataset)
        dataset, described_mapping["class_map"] = class_map.renumbered(dataset, told)
    if like is None:
        for note in loaded.notes:
            print(console.one_line(f"note: {note}"), file=sys.stderr)
        if "logits" in loaded.source:
            print(f"note: number of logits: {classes.ONE_LOGIT}.", file=sys.stderr)
    sigma = request.sigma if request.sigma is not None else loaded.sigma
    if sigma is None:
        raise ValueError(f"{request.model} does not say what noise it was trained with; pass --sigma.")
    samples = 0 if settings is None else settings.at(sigma).expected
    shard = shards.parse(request.shard)
    if shard is not None:
        shards.require_same_everywhere(request.seed, request.batch_size)
    file_name = default_out if shard is None else shard.file_name(default_out)
    out = _beside(request.model, file_name) if request.out is None else file_in(request.out, file_name)
    stored = _stored_manifest(out, request.overwrite) if like is None else like
    if request.seed is not None and not 0 <= request.seed < 2**64:
        raise ValueError(f"--seed must lie in [0, 2^64), got {request.seed}.")
    dataset = images.expecting(dataset, stored)
    recorded = manifests.told(stored, "noise", "seed")
    seed = next(value for value in (request.seed, recorded, secrets.randbits(64)) if value is not None)
    protocol = subset.protocol(request.protocol)
    indices = [int(index) for index in protocol.indices(len(dataset.images))][: request.limit]
    described = {"name": protocol.name, "indices": protocol.slice(len(dataset.images))}
    if shard is not None:
        indices, described = shard.of(indices), shard.described(described)
    noise = noise_source(request.noise, sigma, seed)
    apart = noise_source(request.noise, sigma, seed ^ independence.KEY)
    shown_NCHW = torch.from_numpy(dataset.images[[indices[place] for place in subset.spread(len(indices), 64)]])
    classifier = _classifier(
        request, loaded, device, noisy(shown_NCHW[:16], apart), stored, samples * len(indices) // processes
    )
    independence.require_independent(classifier, shown_NCHW, apart)
    manifest = {
        "model": loaded.source,
        "classifier": {
            **classifier.describe(),
            **classifier.fingerprint(torch.from_numpy(dataset.images[:32])),
        },
        "data": {**as_read.described(stored.get("data")), **described_mapping},
        "protocol": described,
        "noise": {**noise.describe(), "probability_error": noise.probability_error(dataset.images[0].size)},
        "notes": {
            **_notes(request),
            **({"workers": len(classifier.workers)} if len(classifier.workers) > 1 else {}),
            "classes": list(dataset.classes),
            "images": len(indices),
            "image_shape": list(dataset.images.shape[1:]),
            "files": {str(file.path): file.sha256 for file in sources},
            **({} if request.images.labels is None else {"labels": str(request.images.labels)}),
        },
    }
    return Session(
        loaded=loaded,
        classifier=classifier,
        noise=noise,
        seed=seed,
        dataset=dataset,
        indices=indices,
        sigma=sigma,
        out=out,
        sources=sources,
        manifest=manifest,
    )


def with_images_read(session: Session) -> Session:
    """The session, after every image of the run was read once; its notes tell what they were.

    Raises:
        ValueError: If one cannot be read, or is not the recorded one.
    """
    dataset, told = images.read_through(session.dataset, session.indices)
    notes = {**session.manifest["notes"], **told}
    return dataclasses.replace(session, dataset=dataset, manifest={**session.manifest, "notes": notes})


def _classifier(
    request: Request,
    loaded: loading.LoadedModel,
    device: torch.device,
    examples_NCHW: torch.Tensor,
    stored: Mapping[str, Any],
    samples: int,
) -> BaseClassifier:
    """f as the request, or the run that is continued, or a short measurement says."""
    model, sizes = loaded.model, loaded.batch_sizes
    batch_size = request.batch_size or manifests.told(stored, "classifier", "batch_size")
    if batch_size is not None and not sizes[0] <= batch_size <= sizes[1]:
        range_text = f"{sizes[0]}" if sizes[0] == sizes[1] else f"{sizes[0]} to {sizes[1]}"
        if request.recorded:
            fix = f"the table was certified at {batch_size}, so this is not the model it is about"
        elif request.batch_size is None:
            fix = f"the table that is there was begun at {batch_size}; write to another file with --out"
        else:
            fix = f"pass --batch-size {sizes[0]}"
        raise ValueError(f"{request.model} takes batches of {range_text} images; {fix}.")
    image_shape = examples_NCHW.shape[1:]
    prepared = BaseClassifier(
        model,
        loaded.num_classes,
        device=device,
        dtype=request.dtype,
        batch_size=batch_size or max(sizes[0], min(32, sizes[1])),
        image_shape=image_shape,
        examples=examples_NCHW,
        smallest_batch=sizes[0],
        randomized=request.randomized,
    )
    if batch_size is None:
        prepared = prepared.resized(fastest_batch_size(prepared, image_shape, sizes))
    if request.compile not in ("auto", "on", "off"):
        raise ValueError(f"--compile must be auto, on or off, got {request.compile!r}.")
    before = manifests.told(stored, "classifier", "compiled")
    measured = before is None and request.shard is None  # shards might measure differently
    wanted = request.compile == "on" or (request.compile == "auto" and before is True)
    if request.noise == "exact" and not wanted:  # the other source draws in order
        threads = manifests.told(stored, "notes", "threads")
        employ_workers(prepared, image_shape, samples, threads if isinstance(threads, int) else None)
    if request.compile == "auto" and measured and not isinstance(model, ArrayFunction):
        return compiled_if_faster(prepared, image_shape, samples)
    if wanted and isinstance(model, ArrayFunction):
        raise ValueError("a function of arrays cannot be compiled; leave --compile out.")
    if wanted:
        prepared.compile(image_shape)
        if prepared.compiled is not None and not torchrun.local_rank():
            print(f"not compiled, since {prepared.compiled}; it runs uncompiled", file=sys.stderr)
    return prepared


def _beside(model: str, name: str) -> Path:
    path, *others = loading.files_of(model)
    if not others and path.suffix in (".safetensors", ".onnx", ".pt2"):
        return path.parent / name
    raise ValueError("say where the table goes with --out FILE.tsv.")


def _sources(model: str, data: str) -> list[WatchedFile]:
    """The files that a model and its images come from, where they are single files."""
    return [WatchedFile.of(file) for file in (*loading.files_of(model), Path(data)) if file.is_file()]


def _stored_manifest(out: Path, overwrite: bool) -> dict[str, Any]:
    path = manifests.manifest_path(out)
    return manifests.read(path) if out.exists() and path.exists() and not overwrite else {}


def _notes(request: Request) -> dict[str, Any]:
    return {
        "command": shlex.join(["certify", *sys.argv[1:]]),
        "model": request.model,
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": platform.node(),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "versions": {name: metadata.version(name) for name in ("maxup-smoothing", "numpy", "scipy")},
    }
