"""From the arguments of a command to its table: load, check, open the output, sample."""

import platform
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from certify import loader
from certify import manifest as manifests
from certify.classifier import BaseClassifier
from certify.foreign import ArrayFunction
from certify.noise import NoiseSource
from certify.predictions import PredictionTable, render_predictions
from certify.procedures import require_predictable
from certify.run import PredictionSampling, certify_dataset, predict_dataset
from certify.sampling import Sampling
from certify.smoothing import noise_source
from certify.table import INVALID, RadiusTable
from certify.tuning import compiled_if_faster, fastest_batch_size
from data import console, registry, subset
from data.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments that ``certify run`` and ``certify predict`` share; see ``certify.cli`` for their meaning."""

    model: str
    data: str | None
    split: str
    protocol: str
    maximum: int | None
    sigma: float | None
    alpha: float
    dtype: str
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


@dataclass(frozen=True, kw_only=True)
class Session:
    """Everything loaded and checked; nothing written yet."""

    classifier: BaseClassifier
    noise: NoiseSource
    seed: int
    dataset: Dataset
    indices: Sequence[int]
    sigma: float
    out: Path
    manifest: dict[str, Any]


def certify_request(request: Request, sampling_at: Callable[[float], Sampling]) -> Path:
    """Certify what ``request`` says, going on where an earlier run stopped.

    Args:
        request: What to certify.
        sampling_at: The procedure for a sigma.

    Returns:
        The radius table.

    Raises:
        ValueError: For anything in the request that does not fit; with the fix.
        OSError: If files cannot be read or written.
    """
    session = open_session(request, "radii.tsv", lambda sigma: sampling_at(sigma).expected)
    sampling = sampling_at(session.sigma)
    with RadiusTable.open(session.out, _manifest(session, sampling), overwrite=request.overwrite) as table:
        samples = sampling.n0 + sampling.most if sampling.procedure == "fixed" else None
        with _meter("certifying", session, table, samples) as meter:
            certify_dataset(
                session.classifier, session.noise, session.dataset, session.indices, sampling, table, meter.advance
            )
        _warn_of_invalid(table)
    return session.out


def predict_request(request: Request, n: int) -> str:
    """PREDICT for what ``request`` says, going on where an earlier run stopped.

    Returns:
        A line that sums up the table of predictions.

    Raises:
        ValueError: For anything in the request that does not fit; with the fix.
        OSError: If files cannot be read or written.
    """

    def check(sigma: float) -> int:
        require_predictable(sigma, n, request.alpha)
        return n

    session = open_session(request, "predictions.tsv", check)
    sampling = PredictionSampling(sigma=session.sigma, n=n, alpha=request.alpha)
    with PredictionTable.open(session.out, _manifest(session, sampling), overwrite=request.overwrite) as table:
        with _meter("predicting", session, table, n) as meter:
            predict_dataset(
                session.classifier, session.noise, session.dataset, session.indices, sampling, table, meter.advance
            )
        _warn_of_invalid(table)
        return render_predictions(table.done)


def _manifest(session: Session, sampling: Sampling | PredictionSampling) -> dict[str, Any]:
    return {"sampling": sampling.describe(), **session.manifest}


def _meter(what: str, session: Session, table: RadiusTable | PredictionTable, samples: int | None) -> console.Meter:
    """Say what will be done, and measure it."""
    todo = sum(index not in table.done for index in session.indices)
    f, data, noise = session.classifier, session.dataset, session.noise.describe()["source"]
    print(
        f"{what} {todo} of {len(session.indices)} images: {data.name} {data.split}, sigma {session.sigma:g}, "
        f"{f.dtype_name}, batches of {f.batch_size} on {f.device}, {noise} noise of seed {session.seed}, "
        f"into {session.out}",
        file=sys.stderr,
        flush=True,
    )
    return console.Meter(what, "images", todo, None if samples is None else todo * samples, "samples")


def _warn_of_invalid(table: RadiusTable | PredictionTable) -> None:
    invalid = sum(row.counts.get(INVALID, 0) for row in table.done.values())
    if invalid:
        print(
            f"warning: {invalid} samples had logits that were not finite; they voted for no class. Check the model, "
            "or its range in this dtype.",
            file=sys.stderr,
        )


def open_session(request: Request, default_out: str, check: Callable[[float], int]) -> Session:
    """Load and check everything.

    Args:
        request: What to certify.
        default_out: Name of the table where the request gives none.
        check: Refuses a sigma that does not fit; returns the samples an image will take, to judge if compiling pays.

    Raises:
        ValueError: For anything in the request that does not fit; with the fix.
        OSError: If files cannot be read.
    """
    device = _device(request.device)
    name = request.data or loader.trained_on(request.model)
    dataset = registry.load(name, request.split, request.data_root)
    normalize = request.normalize or ("cifar10" if request.arch and name in ("cifar10", "cifar100") else None)
    loaded = loader.load(
        request.model,
        dataset.images.shape[1:],
        dataset.num_classes,
        arch=request.arch,
        normalize=normalize,
        device=device,
    )
    sigma = request.sigma if request.sigma is not None else loaded.sigma
    if sigma is None:
        raise ValueError(f"{request.model} does not say what noise it was trained with; pass --sigma.")
    samples = check(sigma)
    out = request.out or _beside(request.model, default_out)
    stored = _stored_manifest(out, request.overwrite)
    if request.seed is not None and not 0 <= request.seed < 2**64:
        raise ValueError(f"--seed must lie in [0, 2^64), got {request.seed}.")
    recorded = _number(stored, "noise", "seed", 2**64 - 1)
    seed = next(value for value in (request.seed, recorded, secrets.randbits(64)) if value is not None)
    protocol = subset.protocol(request.protocol)
    indices = [int(index) for index in protocol.indices(len(dataset.images))][: request.maximum]
    classifier = _classifier(request, loaded, device, dataset.images.shape[1:], stored, samples * len(indices))
    classifier.require_independent_rows(dataset.images.shape[1:])
    noise = noise_source(request.noise, sigma, seed)
    manifest = {
        "model": loaded.source,
        "classifier": {
            **classifier.describe(),
            **classifier.fingerprint(torch.from_numpy(dataset.images[:32])),
        },
        "data": {"name": dataset.name, "split": dataset.split, "fingerprint": dataset.fingerprint},
        "protocol": {"name": protocol.name, "indices": protocol.slice(len(dataset.images))},
        "noise": {**noise.describe(), "probability_error": noise.probability_error(dataset.images[0].size)},
        "notes": {**_notes(request), "images": len(indices)},
    }
    return Session(
        classifier=classifier,
        noise=noise,
        seed=seed,
        dataset=dataset,
        indices=indices,
        sigma=sigma,
        out=out,
        manifest=manifest,
    )


def _classifier(
    request: Request,
    loaded: loader.LoadedModel,
    device: torch.device,
    image_shape: Sequence[int],
    stored: dict[str, Any],
    samples: int,
) -> BaseClassifier:
    """f as the request, or the run that is continued, or a short measurement says."""
    model, sizes = loaded.model, loaded.batch_sizes
    batch_size = request.batch_size or _number(stored, "classifier", "batch_size", 2**31)
    if batch_size is not None and not sizes[0] <= batch_size <= sizes[1]:
        range_text = f"{sizes[0]}" if sizes[0] == sizes[1] else f"{sizes[0]} to {sizes[1]}"
        raise ValueError(f"{request.model} takes batches of {range_text} images; pass --batch-size {sizes[0]}.")
    if batch_size is None:
        batch_size = fastest_batch_size(model, loaded.num_classes, image_shape, device, request.dtype, sizes)

    def build(compiled: bool) -> BaseClassifier:
        return BaseClassifier(
            model,
            loaded.num_classes,
            device=device,
            dtype=request.dtype,
            batch_size=batch_size,
            image_shape=image_shape,
            compile=compiled,
        )

    if request.compile not in ("auto", "on", "off"):
        raise ValueError(f"--compile must be auto, on or off, got {request.compile!r}.")
    part = stored.get("classifier")
    before = part.get("compiled") if isinstance(part, dict) else None
    if request.compile == "auto" and before is None and not isinstance(model, ArrayFunction):
        return compiled_if_faster(build, image_shape, samples)
    wanted = request.compile == "on" or (request.compile == "auto" and before is True)
    classifier = build(wanted)
    if wanted and classifier.compiled is not None:
        print(f"not compiled, since {classifier.compiled}; it runs uncompiled", file=sys.stderr)
    return classifier


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}.") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device is {name}, but torch sees {torch.cuda.device_count()} CUDA devices; use cpu.")
    return device


def _beside(model: str, name: str) -> Path:
    path = Path(model)
    if path.is_dir():
        return path / name
    if path.suffix in (".safetensors", ".onnx", ".pt2"):
        return path.parent / name
    raise ValueError("say where the table goes with --out FILE.tsv.")


def _stored_manifest(out: Path, overwrite: bool) -> dict[str, Any]:
    path = manifests.manifest_path(out)
    return manifests.read(path) if out.exists() and path.exists() and not overwrite else {}


def _number(manifest: dict[str, Any], section: str, name: str, most: int) -> int | None:
    """A number of a stored manifest, None if it is not there or is none; the comparison with ours then refuses it."""
    part = manifest.get(section)
    value = part.get(name) if isinstance(part, dict) else None
    return value if type(value) is int and 0 <= value <= most else None


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
