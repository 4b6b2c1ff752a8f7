"""A certificate of one classifier, carried over to the one that is deployed.

Another dtype, batch size, device or program is another function, and no certificate of f holds for it. But where f and
the deployed f' nearly always answer alike under the noise, most of the radius does: `disagreement` has the argument.
It costs m forward passes of both for each image, where certifying f' takes its n, which may be ten times as many.
"""

# Shapes: M noisy copies of an image; N of them at a time, B rows of a batch; C channels, H height, W width.

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import PAIRS, NoiseSource
from maxup_smoothing.certify.noise.source import noise_source, noisy
from maxup_smoothing.certify.preflight import independence
from maxup_smoothing.certify.runs import device as devices
from maxup_smoothing.certify.runs.reopen import Overrides, Reopened, brief, reopen_table, require_sections
from maxup_smoothing.certify.runs.session import Request, Session
from maxup_smoothing.certify.statistics.disagreement import lost_pairs
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.radius_table import read_rows, section
from maxup_smoothing.certify.tables.row import Row
from maxup_smoothing.certify.transfer.table import Transfer, TransferredTable
from maxup_smoothing.data.runtime.atomic import file_sha256

_SIMILAR = 4  # a pool that both batch sizes divide is made if it is at most so many of the larger batches
_SAME_CLASSIFIER = "notes.threads"  # what may differ between a run and its continuation, too


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


@dataclass
class Timing:
    """Samples and seconds of both classifiers, those of the noise left out."""

    samples: int = 0
    certified: float = 0.0
    deployed: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Both classifiers, with what is to be transferred.

    Attributes:
        session: Data, noise and f, as they were certified.
        deployed: The other classifier, f'.
        rows: To be transferred.
        settings: How.
        manifest: Of the new table.
        warnings: For the user.
        timing: Filled by `transfer_rows`.
    """

    session: Session
    deployed: BaseClassifier
    rows: Sequence[Row]
    settings: Transfer
    manifest: dict[str, Any]
    warnings: Sequence[str]
    timing: Timing = field(default_factory=Timing)


def answers(
    certified: BaseClassifier,
    deployed: BaseClassifier,
    noise: NoiseSource,
    image_CHW: Tensor,
    input_id: int,
    pairs: int,
    timing: Timing,
    advance: Callable[[int], None] = lambda samples: None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What both classifiers answer to the same noisy copies, each in batches of its own size.

    Args:
        certified: f, on whose device the noise is drawn.
        deployed: The other classifier.
        noise: Where the copies come from; stage ``PAIRS``.
        image_CHW: The image.
        input_id: Its index in the data set.
        pairs: Number of copies.
        timing: Added to.
        advance: Called with the number of copies after each pool of them.

    Returns:
        Two arrays of classes, int64 (M,).

    Raises:
        ValueError: If memory runs out.
    """
    sizes = certified.batch_size, deployed.batch_size
    common = math.lcm(*sizes)
    pool_NCHW = torch.zeros(
        (common if common <= _SIMILAR * max(sizes) else max(sizes), *image_CHW.shape), device=certified.device
    ).to(memory_format=certified.layout)
    batches = [f.empty_batch(image_CHW.shape).zero_() for f in (certified, deployed)]
    image_CHW = image_CHW.to(certified.device)
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for start in range(0, pairs, len(pool_NCHW)):
        copies_NCHW = pool_NCHW[: pairs - start]
        noise.fill(copies_NCHW, image_CHW, input_id=input_id, stage=PAIRS, start=start)
        begun = time.perf_counter()
        found[0].append(_classes(certified, copies_NCHW, batches[0]))
        between = time.perf_counter()
        found[1].append(_classes(deployed, copies_NCHW, batches[1]))
        timing.samples += len(copies_NCHW)
        timing.certified += between - begun
        timing.deployed += time.perf_counter() - between
        advance(len(copies_NCHW))
    if any(f.micro_batch < f.batch_size for f in (certified, deployed)):
        raise ValueError(
            "memory ran out, and a classifier went on with fewer rows at a time, which makes it another one; free some "
            "memory, or deploy with a smaller --to-batch-size."
        )
    certified_M, deployed_M = (torch.cat(parts).numpy() for parts in found)
    return certified_M, deployed_M


def _classes(classifier: BaseClassifier, copies_NCHW: Tensor, batch_BCHW: Tensor) -> Tensor:
    """Classes (N,), on the CPU; rows of the last batch beyond the copies keep old contents, as in `engine.votes`."""
    parts = []
    for part_BCHW in copies_NCHW.split(classifier.batch_size):
        batch_BCHW[: len(part_BCHW)].copy_(part_BCHW)
        parts.append(classifier.classify(batch_BCHW)[: len(part_BCHW)])
    return torch.cat(parts).cpu()


def open_transfer(
    file: Path,
    deployment: Deployment,
    given: Overrides,
    *,
    pairs: int,
    alpha: float | None = None,
    split: float,
    limit: int | None = None,
) -> Opened:
    """Load and check everything; nothing is written.

    Args:
        file: A radius table, its manifest beside it.
        deployment: The other classifier.
        given: What the user says of the certified one in place of the manifest.
        pairs: Answers of both, for each image.
        alpha: Failure probability of each transferred certificate; the table's own if None.
        split: Share of it for the pairs.
        limit: Number of rows to transfer, the first of the table; None for all.

    Raises:
        ValueError: If the table, the models or a setting do not fit; with the fix.
        OSError: If a file cannot be read.
    """
    rows, stored = read_rows(file)
    beside = manifests.manifest_path(file)
    if stored is None:
        raise FileNotFoundError(f"no manifest at {beside}; which classifier was certified, and with which noise?")
    stored = {**stored, "notes": _notes(stored)}
    require_sections(stored, beside)
    settings = Transfer(
        pairs=pairs,
        alpha=rows[0].alpha if alpha is None else alpha,
        split=split,
        probability_error=stored["noise"].get("probability_error"),
    )
    reopened = reopen_table(file, stored, given, of_rows=True)
    session, request = reopened.session, reopened.request
    warnings = _require_certified(file, stored, reopened)
    if strangers := [row.idx for row in rows if row.idx >= len(session.dataset.images)]:
        raise ValueError(f"{file} has idx {strangers[0]}, the data set {len(session.dataset.images)} images.")
    for row in rows[:limit]:
        settings.voted(row)  # refuses what cannot be transferred before anything is drawn
    deployed, source = deployed_classifier(deployment, session, request)
    classifier = {
        **deployed.describe(),
        **deployed.fingerprint(torch.from_numpy(session.dataset.images[:32])),
    }
    if deployment.model is None and _same(classifier, session.manifest["classifier"]):
        raise ValueError(
            "the deployed classifier would be the certified one in everything; say what differs, such as "
            "--to-dtype float32 --to-batch-size 1, or --to-model."
        )
    shown, told = rows[:limit], stored["sampling"]
    manifest = {
        **{name: part for name, part in stored.items() if name not in ("schema", "notes")},
        "sampling": {**{name: part for name, part in told.items() if name != "looks"}, "alpha": settings.alpha},
        "model": source,
        "classifier": classifier,
        "transferred": {
            "table_sha256": file_sha256(file),
            "pairs": pairs,
            "split": split,
            "stage": PAIRS,
            "from": {name: stored[name] for name in ("sampling", "model", "classifier")},
        },
        "notes": {
            **session.manifest["notes"],
            "model": deployment.model or request.model,
            "certified_model": request.model,
            "images": len(shown),
        },
    }
    return Opened(
        session=session, deployed=deployed, rows=shown, settings=settings, manifest=manifest, warnings=warnings
    )


def transfer_rows(
    opened: Opened, table: TransferredTable, report: Callable[[int, int], None] = lambda samples, rows: None
) -> None:
    """Transfer the rows that ``table`` does not have yet; each is on disk before the next is begun.

    Args:
        opened: See `open_transfer`.
        table: Open for writing, with its manifest.
        report: Called with the numbers of pairs drawn and of rows finished since the last call.
    """
    session, settings = opened.session, opened.settings
    if manifests.told(table.manifest, "notes", "images") != len(opened.rows):
        table.annotate({"images": len(opened.rows)})  # of a table that grows, the audit asks for as many rows
    both, probe_NCHW = (session.classifier, opened.deployed), torch.from_numpy(session.dataset.images[:32])
    before = [one.mark(probe_NCHW) for one in both]
    for row in opened.rows:
        if row.idx in table.done:
            continue
        if not settings.can_certify(row):
            table.append(settings.carry(row, differing=0, lost=0, pairs=0))
            report(settings.pairs, 1)
            continue
        start = time.perf_counter()
        certified_M, deployed_M = answers(
            session.classifier,
            opened.deployed,
            session.noise,
            torch.from_numpy(session.dataset.images[row.idx]),
            row.idx,
            settings.pairs,
            opened.timing,
            lambda samples: report(samples, 0),
        )
        for name, one, was in zip(("f", "the deployed f'"), both, before, strict=True):
            if (change := one.change_since(was)) is not None:
                raise ValueError(
                    f"{name} has changed while it ran: {change}; code of the model itself updates it. Freeze "
                    "the weights and buffers, and give another --out."
                )
        differing, lost = lost_pairs(certified_M, deployed_M, row.selected, row.bound)
        table.append(settings.carry(row, differing=differing, lost=lost, seconds=time.perf_counter() - start))
        report(0, 1)


def _require_certified(file: Path, stored: Mapping[str, Any], reopened: Reopened) -> list[str]:
    """Refuse an f, data or noise that are not those of the table; a difference in threads is told."""
    if stored["notes"].get("micro_batch"):
        raise ValueError(
            f"memory ran out while {file} was certified, and not all rows are of one f (its manifest's micro_batch); "
            "certify the deployed classifier itself."
        )
    other = [mismatch for mismatch in reopened.warnings if mismatch.field != _SAME_CLASSIFIER]
    if reopened.errors:
        raise ValueError(f"this is not what {file} was certified with: {brief(reopened.errors[0])}.")
    if other:
        raise ValueError(
            f"{file} was certified on another platform ({brief(other[0])}), where f may round differently; the pairs "
            "must be drawn with the f that voted: do it there, or certify again here."
        )
    return [brief(mismatch) for mismatch in reopened.warnings]


def _notes(stored: Mapping[str, Any]) -> Any:
    """The manifest's section; of a merged table, what those of its parts say together."""
    parts = manifests.told(stored, "protocol", "parts")
    if "notes" in stored or parts is None:
        return stored.get("notes")
    notes: dict[str, Any] = {}
    for part in reversed(parts):
        notes |= section(part, "notes")
    return notes


def _same(ours: Mapping[str, Any], certified: Mapping[str, Any]) -> bool:
    return all(ours[name] == certified[name] for name in ours)


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
