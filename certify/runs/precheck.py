"""The checks of ``certify.preflight`` for what a command has loaded, before its table is touched."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.noise.source import noise_source
from maxup_smoothing.certify.preflight.checks import QUICK, Effort, examine
from maxup_smoothing.certify.preflight.finding import ERROR, WARNING, Finding, lines
from maxup_smoothing.certify.preflight.sample import Sample
from maxup_smoothing.certify.preflight.subject import Subject
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.tables.durable import finished
from maxup_smoothing.data import seen

if TYPE_CHECKING:  # which imports this module
    from maxup_smoothing.certify.runs.session import Request, Session

#: In the manifest of a table whose run was told not to check.
SKIPPED = "nothing was checked before the run (--no-check)"


def checked(
    session: "Session", request: "Request", sampling: Sampling | None = None, radii: Sequence[float] | None = None
) -> "Session":
    """The session with what was warned of in its manifest, if nothing forbids the run.

    Warnings are also printed on stderr. A run that has nothing left to do is not checked.

    Args:
        session: What the run will use.
        request: Says whether to check at all.
        sampling: The procedure, to judge which radii are in reach.
        radii: Those that are asked for.

    Raises:
        ValueError: If there are errors, one line each.
    """
    if not request.check:
        return _noted(session, [SKIPPED])
    if not request.overwrite and finished(session.out) >= set(session.indices):
        return session
    found = findings(session, request, QUICK, sampling, radii)
    for line in (warnings := lines(found, WARNING)):
        print(f"warning: {line}", file=sys.stderr)
    if errors := lines(found, ERROR):
        raise ValueError("\nerror: ".join([*errors, "nothing was written; see `certify check` for more."]))
    return _noted(session, warnings)


def findings(
    session: "Session",
    request: "Request",
    effort: Effort,
    sampling: Sampling | None = None,
    radii: Sequence[float] | None = None,
) -> list[Finding]:
    """All that is found; see ``certify.preflight.checks.examine``."""
    total = len(session.indices)
    places = np.arange(min(effort.images, total)) * total // min(effort.images, total)
    chosen = np.array(session.indices)[places]
    loaded, trained_I = session.loaded, _trained(session, request)
    subject = Subject(
        classifier=session.classifier,
        images_ICHW=torch.from_numpy(session.dataset.images[chosen]),
        labels_I=torch.from_numpy(session.dataset.labels[chosen]),
        sigma=session.sigma,
        make_noise=lambda seed: noise_source(request.noise, session.sigma, seed),
        seed=session.seed,
        model=loaded.model,
        about={
            **loaded.source,
            "sigma": loaded.sigma,
            "epochs": loaded.config.get("epochs"),
            "best": Path(request.model).name == "best.safetensors",
        },
        data={
            "name": session.dataset.name,
            "split": session.dataset.split,
            "trained_on": loaded.config.get("dataset"),
        },
        sample=Sample(
            labels_N=session.dataset.labels,
            indices_I=np.array(session.indices),
            classes=session.dataset.classes,
            trained_I=trained_I,
        ),
    )
    return examine(subject, effort, sampling, radii)


def _trained(session: "Session", request: "Request") -> NDArray[np.bool_] | None:
    """Whether the model, or a member of it, was trained on each image; None if that is not recorded."""
    source = session.loaded.source
    if any(one.get("kind") != "checkpoint" for one in source.get("members", [source])):
        return None
    known = [seen.read(path.parent) for path in loading.files_of(request.model)]
    recorded = [hashes for hashes in known if hashes is not None]
    if not recorded:
        return None
    return np.isin(seen.hashes(session.dataset.images, session.indices), np.concatenate(recorded))


def _noted(session: "Session", preflight: list[str]) -> "Session":
    notes = {**session.manifest["notes"], "preflight": preflight}
    return dataclasses.replace(session, manifest={**session.manifest, "notes": notes})
