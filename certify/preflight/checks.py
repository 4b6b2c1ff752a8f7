"""Runs all checks of a subject: thoroughly, or quickly in about a second before a run."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from maxup_smoothing.certify.preflight.accuracy import accuracy_findings
from maxup_smoothing.certify.preflight.finding import Finding, worst_first
from maxup_smoothing.certify.preflight.model import Watch, arithmetic_findings, row_findings
from maxup_smoothing.certify.preflight.noise import noise_finding
from maxup_smoothing.certify.preflight.pixels import pixel_findings
from maxup_smoothing.certify.preflight.sample import class_findings
from maxup_smoothing.certify.preflight.settings import settings_findings, training_findings
from maxup_smoothing.certify.preflight.subject import Subject
from maxup_smoothing.certify.statistics.procedure import Sampling


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much a check looks at.

    Attributes:
        images: Largest number of images.
        draws: Number of noise values.
        search: Whether to try other normalisations even if f is right more often than by chance.
        seconds: Approximate seconds for f's passes over the images; if f is slow, fewer images are taken.
        rows: Seconds for comparing rows in different batches; 0 if the caller has already compared them.
    """

    images: int
    draws: int
    search: bool
    seconds: float
    rows: float = 0.0


THOROUGH = Effort(images=500, draws=10_000_000, search=True, seconds=60.0, rows=10.0)
QUICK = Effort(images=128, draws=400_000, search=False, seconds=0.5)
_PASSES = 6  # approximate number of passes over the images


def examine(
    subject: Subject,
    effort: Effort = THOROUGH,
    sampling: Sampling | None = None,
    radii: Sequence[float] | None = None,
) -> list[Finding]:
    """Run all checks, and return the findings, errors first.

    Args:
        subject: What is checked.
        effort: ``THOROUGH`` or ``QUICK``.
        sampling: The sampling procedure, which determines the radii in reach; None leaves this check out.
        radii: The radii that the user asks for.

    Raises:
        ValueError: If f cannot be run on the images at all.
    """
    found = list(pixel_findings(subject))
    found += training_findings(subject)
    if subject.sample is not None:
        found += class_findings(subject.sample)
    found.append(noise_finding(subject.make_noise, subject.noise_seed, subject.place, effort.draws))
    subject = _affordable(subject, effort)
    watch = Watch(subject)
    if effort.rows:
        found += row_findings(subject, effort.rows)
    found += arithmetic_findings(subject)
    found += accuracy_findings(subject, effort.search)
    found += watch.findings()
    if sampling is not None:
        found += settings_findings(sampling, radii)
    return worst_first(found)


def _affordable(subject: Subject, effort: Effort) -> Subject:
    """The subject with as many images, evenly spaced, as f can classify in the time; at least one batch if possible."""
    f, images = subject.classifier, min(effort.images, len(subject.images_ICHW))
    x_BCHW = f.empty_batch(subject.images_ICHW.shape[1:]).fill_(0.5)
    f.classify(x_BCHW)  # prepares the kernels
    start = time.perf_counter()
    f.classify(x_BCHW).sum().item()  # waits for the device
    batches = int(effort.seconds / _PASSES / (time.perf_counter() - start))
    images = min(images, max(1, batches) * f.batch_size)
    chosen = torch.arange(images) * len(subject.images_ICHW) // images
    return replace(subject, images_ICHW=subject.images_ICHW[chosen], labels_I=subject.labels_I[chosen])
