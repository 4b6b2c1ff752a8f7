"""The classifier that is served, where it is another than the certified one: as `certify transfer` is told."""

import sys
from dataclasses import dataclass
from typing import Any

import torch

from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise.source import noise_source, noisy
from maxup_smoothing.certify.preflight import independence
from maxup_smoothing.certify.runs import device as devices
from maxup_smoothing.certify.runs.session import Request, Session


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The deployed classifier f'; what is None is as it was certified.

    Attributes:
        model: As for ``certify run``.
        dtype: Arithmetic.
        batch_size: Rows of a forward pass.
        device: cpu, cuda or cuda:N.
        compiled: Through torch.compile.
        folded: Whether batch norms are folded into convolutions, where they can be.
        arch: Of another project's weights.
        normalize: In front of the model.
        weights: Of several sets of weights in one file.
    """

    model: str | None = None
    dtype: str | None = None
    batch_size: int | None = None
    device: str | None = None
    compiled: bool | None = None
    folded: bool = True
    arch: str | None = None
    normalize: str | None = None
    weights: str | None = None


def deployed_classifier(
    deployment: Deployment, session: Session, request: Request
) -> tuple[BaseClassifier, dict[str, Any]]:
    """The deployed classifier, checked as the certified one was, and where it is from, for the manifest.

    Args:
        deployment: What is known of it.
        session: With the certified one.
        request: What the session was opened with.

    Raises:
        ValueError: If it does not load, does not fit the data or a setting, or cannot be compiled; with the fix.
        OSError: If a file cannot be read.
    """
    f, shape = session.classifier, session.dataset.images.shape[1:]
    name, own = deployment.model or request.model, deployment.model is None
    try:
        batch_size = deployment.batch_size or f.batch_size
        device = f.device if deployment.device is None else devices.device(deployment.device)
        loaded = loading.load(
            name,
            shape,
            f.num_classes,
            arch=deployment.arch or (request.arch if own else None),
            normalize=deployment.normalize or (request.normalize if own else None),
            otherwise="cifar10" if own and session.dataset.name in ("cifar10", "cifar100") else None,
            weights=deployment.weights or (request.weights if own else None),
            batch_size=batch_size,
            options="--to-{}".format,
            device=device,
        )
        for note in loaded.notes if deployment.model is not None else ():
            print(f"note: {note}", file=sys.stderr)
        if not loaded.batch_sizes[0] <= batch_size <= loaded.batch_sizes[1]:
            few, many = loaded.batch_sizes
            raise ValueError(f"{name} takes batches of {few} to {many} images; pass --to-batch-size {few}.")
        compiled = (f.compiled is None) if deployment.compiled is None else deployment.compiled
        if compiled and not deployment.folded:
            raise ValueError("what is compiled is folded before; pass --to-compile off with --to-folding off.")
        deployed = BaseClassifier(
            loaded.model,
            loaded.num_classes,
            device=device,
            dtype=deployment.dtype or (f.dtype_name if own else None),
            batch_size=batch_size,
            smallest_batch=loaded.batch_sizes[0],
        )
        images_NCHW = torch.from_numpy(session.dataset.images[:64])
        apart = noise_source(request.noise, session.sigma, session.seed ^ independence.KEY)
        deployed.prepare(noisy(images_NCHW[:16], apart), fold=deployment.folded)
        if compiled:
            deployed.compile(shape)
        independence.require_independent(deployed, images_NCHW, apart)
    except ValueError as error:
        raise ValueError(f"the deployed classifier: {error}") from None
    if compiled and deployed.compiled is not None:
        raise ValueError(f"the deployed classifier cannot be compiled, since {deployed.compiled}.")
    return deployed, loaded.source
