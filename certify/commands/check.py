"""``certify check``: what would make a run void or useless, before it begins."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maxup_smoothing.certify.commands import arguments, options
from maxup_smoothing.certify.preflight.finding import ERROR, FACT, WARNING, Finding, lines
from maxup_smoothing.certify.statistics.procedure import ProcedureSettings

if TYPE_CHECKING:
    from maxup_smoothing.certify.runs.session import Session


def check(
    model: options.Model,
    data: options.Data = None,
    split: options.Split = "test",
    class_map: options.ClassMap = None,
    labels: options.Labels = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    interpolation: options.Interpolation = None,
    grayscale: options.Grayscale = False,
    protocol: options.ProtocolName = "full",
    limit: options.Limit = None,
    sigma: options.Sigma = None,
    n: Annotated[
        int, typer.Option("--n", "-n", help="Estimation samples that the run will draw for each image.")
    ] = 100_000,
    alpha: options.Alpha = 0.001,
    radii: Annotated[str | None, typer.Option(help="Radii that the run is to certify, such as 0,0.25,0.5.")] = None,
    dtype: options.Precision = None,
    randomized: options.Randomized = False,
    batch_size: options.BatchSize = "auto",
    device: options.Device = "auto",
    noise: options.Noise = "exact",
    arch: options.Arch = None,
    normalize: options.Normalize = None,
    weights: options.Weights = None,
    data_root: options.DataRoot = None,
) -> None:
    """Check model, data and noise for mistakes that make certificates void or useless.

    Each finding says what was measured, what it means and what to do. An error stops a run before it begins, and ends
    this command with status 1. A run records warnings in its manifest. Nothing is written. `certify run` and `certify
    predict` make the same checks with fewer images and fewer noisy copies.
    """
    from maxup_smoothing.certify.preflight.checks import THOROUGH
    from maxup_smoothing.certify.runs.images import ImageOptions
    from maxup_smoothing.certify.runs.precheck import findings
    from maxup_smoothing.certify.runs.session import Request, open_session, with_images_read

    request = Request(
        model=model,
        data=data,
        split=split,
        protocol=protocol,
        limit=limit,
        sigma=sigma,
        dtype=dtype,
        batch_size=arguments.batch_size(batch_size),
        compile="off",  # a compiled network must give the same logits, or it is not used
        device=device,
        noise=noise,
        seed=None,
        out=Path("check.tsv"),  # nothing is written, and no table of this name is read
        overwrite=True,
        arch=arch,
        normalize=normalize,
        data_root=data_root,
        randomized=randomized,
        weights=weights,
        class_map=class_map,
        images=ImageOptions(resize=resize, crop=crop, interpolation=interpolation, grayscale=grayscale, labels=labels),
    )
    settings = ProcedureSettings(n0=100, n=n, alpha=alpha)
    session = with_images_read(open_session(request, "check.tsv", settings))
    found = findings(session, request, THOROUGH, settings.at(session.sigma), arguments.radii(radii))
    print(_title(session))
    print(render(found))
    if lines(found, ERROR):
        raise typer.Exit(1)


def render(found: Sequence[Finding]) -> str:
    """The findings, a few lines each, and how many there are of each level."""
    texts = []
    for finding in found:
        texts.append(f"{finding.level:<8} {finding.check}: {finding.seen}")
        texts += [f"{'':<8} -> {text}" for text in (finding.meaning, finding.fix) if text]
    counts = [len(lines(found, level)) for level in (ERROR, WARNING, FACT)]
    verdict = "a run would not begin" if counts[0] else "a run may begin"
    return "\n".join([*texts, f"errors {counts[0]}, warnings {counts[1]}, facts {counts[2]}: {verdict}"])


def _title(session: "Session") -> str:
    f, data = session.classifier, session.dataset
    return (
        f"{data.name} {data.split}, {len(session.indices)} images; sigma {session.sigma:g}, {f.arithmetic}, batches of "
        f"{f.batch_size} on {f.device}"
    )
