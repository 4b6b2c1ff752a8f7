"""The run of the theory check: from networks to verdicts and a report."""

# Shapes: I images.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from maxup_smoothing.analysis.figures import curves
from maxup_smoothing.analysis.theory import figures as drawings
from maxup_smoothing.analysis.theory import networks, report
from maxup_smoothing.analysis.theory.constants import moment
from maxup_smoothing.analysis.theory.derivatives import Derivatives, corners, cross_entropy, derivatives_at, kinks
from maxup_smoothing.analysis.theory.gradient_norm import Array, Draws, MaxUpLoss, draw, largest_noise
from maxup_smoothing.analysis.theory.networks import Network
from maxup_smoothing.analysis.theory.norms import Norms, measure
from maxup_smoothing.analysis.theory.verdict import REACH, LawEvidence, Study, judge, summary
from maxup_smoothing.data.runtime import console, hardware
from maxup_smoothing.data.runtime.atomic import write_atomically
from maxup_smoothing.train.maxup import PerExampleLoss, maxup_loss
from maxup_smoothing.train.objectives.gradient_penalty import expected_maximum
from maxup_smoothing.train.perturbations import GaussianNoise, Perturbation
from maxup_smoothing.train.seeds import derive_seed, generator

SIGMAS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.25, 0.5)
_PROBES, _DIRECTIONS, _NUDGE, _NOISE = range(1 << 40, (1 << 40) + 4)  # purposes of random numbers; no m is so large
_NOISE_ERROR = 1e-3  # of the noise's mean largest value, relative: a tenth of its margin
_TOY_GROUPS = 8  # times as many groups for toys, which cost next to nothing
_CORNER = 1e-2  # of `corners`: one image in which the loss has no gradient is at 0.1 or so, others at 1e-6


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is drawn.

    Attributes:
        sigmas: Tried; a network's training sigma is added.
        ms: Numbers of copies, each at least 2.
        groups: Of m copies, at each image, at least 16; ``run`` draws 8 times as many for toys.
        probes: For the trace of the Hessian.
        seed: Of everything random.
    """

    sigmas: Sequence[float] = SIGMAS
    ms: Sequence[int] = (2, 4, 16)
    groups: int = 64
    probes: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what the law does not speak of."""
        if len(self.sigmas) < 3 or any(not 1e-16 <= sigma < np.inf for sigma in self.sigmas):
            raise ValueError(f"sigmas must be at least three numbers of at least 1e-16, got {list(self.sigmas)}.")
        if not self.ms or any(m < 2 for m in self.ms) or len(set(self.ms)) < len(self.ms):
            raise ValueError(f"m must be different whole numbers of at least 2, got {list(self.ms)}.")
        if self.groups < 16:
            raise ValueError(f"groups must be at least 16, to estimate a standard error, got {self.groups}.")


def examine(
    subject: Network,
    settings: Settings,
    *,
    per_example_loss: PerExampleLoss = cross_entropy,
    maxup: MaxUpLoss = maxup_loss,
    constant: Callable[[int], float] = expected_maximum,
    noise: Callable[[float], Perturbation] = GaussianNoise,
) -> Study:
    """Try the law on one network.

    Args:
        subject: A network and images.
        settings: How much is drawn.
        per_example_loss: Of the model's output and the labels.
        maxup: On trial: the loss that training uses, or another.
        constant: On trial: c_m from m, as the explicit penalty of training has it.
        noise: On trial: from sigma to a perturbation.

    Returns:
        The verdict for each m, and what it rests on.

    Raises:
        ValueError: If there is nothing to check: no gradient at any image, or losses that are not finite.
    """
    model, x_I, y_I, seed = subject.model, subject.x_I, subject.y_I, settings.seed
    found = kinks(model, per_example_loss, x_I, y_I)
    local = derivatives_at(
        model, per_example_loss, x_I, y_I, probes=settings.probes, generator=generator(x_I.device, seed, _PROBES)
    )
    corner_I = corners(
        model, per_example_loss, x_I, y_I, local.norm_I, generator=generator(x_I.device, seed, _DIRECTIONS)
    )
    sigmas = sorted({*settings.sigmas, *([subject.sigma] if subject.sigma else [])})
    smooth = not found if subject.smooth is None else subject.smooth
    passes = len(x_I) * settings.groups * len(sigmas) * sum(m + 1 for m in settings.ms)
    verdicts = []
    with console.Meter(subject.name, "numbers of copies", len(settings.ms), passes, "images") as meter:
        for m in settings.ms:
            drawn = draw(
                model,
                per_example_loss,
                x_I,
                y_I,
                local,
                m=m,
                sigmas=sigmas,
                groups=settings.groups,
                seed=seed,
                maxup=maxup,
                noise=noise,
                advance=meter.advance,
            )
            largest_R = largest_noise(noise, x_I[0], m=m, seed=derive_seed(seed, _NOISE), count=_noise_count(m))
            verdicts.append(judge(_evidence(drawn, local, constant(m), largest_R), smooth=smooth))
            meter.advance(finished=1)
    return Study(
        name=subject.name,
        images=subject.images,
        count=len(x_I),
        groups=drawn.linear_IG.shape[1],
        sigma=subject.sigma,
        nudge=subject.nudge,
        kinks=found,
        smooth=smooth,
        corners=int((corner_I > _CORNER).sum()),
        reach=REACH * float(local.norm_I.sum() / local.frobenius_I.sum()),
        word=summary(verdicts),
        verdicts=tuple(verdicts),
    )


def run(
    names: Sequence[str],
    out: Path,
    *,
    data: str | None = None,
    data_root: Path | None = None,
    images: int = 64,
    norm_images: int = 1000,
    nudge: float = 0.0,
    settings: Settings | None = None,
    command: str = "",
) -> list[Study]:
    """Try the law on networks by name, and write a report with figures.

    Gradient norms are compared between those that look at the same data set, the first against each of the others.

    Args:
        names: See ``subjects.load``.
        out: The report, a file that ends in .md; the figures lie in a folder of the same name beside it.
        data: A data set's name; by default what each was trained on.
        data_root: Where data sets lie.
        images: Of each network, at least 2.
        norm_images: For the comparison of gradient norms.
        nudge: If positive, a network that has no gradient at some image is tried once more at images moved by so much
            noise.
        settings: How much is drawn.
        command: How to repeat it, for the report.

    Returns:
        A study for each network, in the order of the report.

    Raises:
        ValueError: If a name or number is none.
        OSError: If a file is missing or cannot be written.
    """
    if out.suffix != ".md":
        raise ValueError(f"--out must end in .md, got {out}.")
    if not 0 <= nudge < 1:
        raise ValueError(f"nudge must lie in [0, 1), a small part of a pixel's range, got {nudge}.")
    settings = settings or Settings()
    loaded = [
        networks.load(name, data=data, data_root=data_root, images=images, seed=settings.seed) for name in names
    ]  # all of them first: a slip in the last name must not cost the work on the others
    studies = list[Study]()
    for name, subject in zip(names, loaded, strict=True):
        toy = name.startswith(networks.TOY)
        drawing = replace(settings, groups=_TOY_GROUPS * settings.groups) if toy else settings
        studies.append(examine(subject, drawing))
        _write(out, studies, [], settings, command)  # so that a stop costs one network's work
        if nudge and studies[-1].corners:
            moved = subject.moved(nudge, derive_seed(settings.seed, _NUDGE))
            studies.append(examine(moved, settings))
    norms = [
        measure(
            networks.load(name, data=data, data_root=data_root, images=norm_images, seed=settings.seed), settings.seed
        )
        for name in names
        if not name.startswith(networks.TOY)
    ]
    _write(out, studies, norms, settings, command)
    return studies


def _write(out: Path, studies: Sequence[Study], norms: Sequence[Norms], settings: Settings, command: str) -> None:
    """The report on the networks so far, with its figures."""
    drawn = {"law.png": drawings.law(studies), "orders.png": drawings.orders(studies)}
    if norms:
        drawn["norms.png"] = drawings.norms(norms)
    for file, figure in drawn.items():
        write_atomically(out.with_suffix("") / file, curves.encode(figure, ".png"))
    threads = torch.get_num_threads()
    conditions = (
        f"{hardware.cpu_name()}, {threads} thread{'s' if threads > 1 else ''}, torch {version('torch')}, float64; "
        f"seed {settings.seed}, {settings.probes} probes for traces"
    )
    text = report.markdown(
        studies, norms, figures=[f"{out.stem}/{file}" for file in drawn], conditions=conditions, command=command
    )
    write_atomically(out, text.encode())


def _evidence(drawn: Draws, local: Derivatives, constant: float, largest_R: Array) -> LawEvidence:
    second = moment(drawn.m, 2)
    return LawEvidence(
        m=drawn.m,
        constant=constant,
        second=second,
        sigmas=drawn.sigmas,
        gain_SIG=drawn.gain_SIG,
        first_SIG=drawn.first_SIG,
        second_SIG=drawn.second_SIG,
        largest_R=largest_R,
        norm_I=local.norm_I.numpy(),
        curvature_I=local.curvature_I(second).numpy(),
        trace_error_I=local.trace_error_I.numpy(),
        frobenius_I=local.frobenius_I.numpy(),
        rounding_I=local.rounding_I.numpy(),
        batch_G=drawn.batch_G,
    )


def _noise_count(m: int) -> int:
    """How many coordinates tell the mean of the largest of m normal numbers with `_NOISE_ERROR`."""
    mean = moment(m, 1)
    return int((moment(m, 2) / mean**2 - 1) / _NOISE_ERROR**2)
