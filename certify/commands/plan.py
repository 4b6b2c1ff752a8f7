"""``certify plan``: what a run can reach, and what it will take."""

# Shapes: I images of the pilot.

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import special

from maxup_smoothing.certify.commands import arguments, options
from maxup_smoothing.certify.planning import cost
from maxup_smoothing.certify.statistics.certificate import BOUNDS, PROCEDURES
from maxup_smoothing.certify.statistics.procedure import ProcedureSettings, Sampling
from maxup_smoothing.certify.statistics.radius import probability_at
from maxup_smoothing.certify.statistics.rounding import floor_text
from maxup_smoothing.certify.statistics.sample_size import expectation, n_for_power, unanimous_n
from maxup_smoothing.certify.tables.location import table_in

if TYPE_CHECKING:  # it brings torch, whose import takes seconds
    from maxup_smoothing.certify.runs.session import Session

_MARGINS = (1.05, 1.1, 1.25, 1.5)
_PROBABILITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 0.999, 0.9999, 1.0)
_COLUMNS = 6  # radii of a table of 100 characters
# The pilot's noise is another stream than that of a run with the same seed: what was planned by is not counted again.
_PILOT_KEY = 0x70696C6F74
_PILOT_IMAGES, _PILOT_SAMPLES, _SELECTION = (2, 100), (100, 2000), 0.25


def plan(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="As in `certify run`; without it nothing is measured.")
    ] = None,
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
    sigma: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the noise, in [0, 1] pixel units.", show_default="the checkpoint's, or TABLE's"
        ),
    ] = None,
    n0: Annotated[
        int | None, typer.Option(help="Selection samples for each image.", show_default="TABLE's, or 100")
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "--n", "-n", help="Estimation samples for each image, at most.", show_default="100000; anytime 10000000"
        ),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Failure probability of each certificate.", show_default="TABLE's, or 0.001")
    ] = None,
    procedure: Annotated[str, typer.Option(metavar="|".join(PROCEDURES), help="As in `certify run`.")] = "sequential",
    bound: Annotated[str, typer.Option(metavar="|".join(BOUNDS), help="As in `certify run`.")] = ("clopper-pearson"),
    radii: Annotated[
        str | None, typer.Option(help="Radii to decide, such as 0.25,0.5.", show_default="0,0.25,0.5 … the ceiling")
    ] = None,
    pilot_seconds: Annotated[float, typer.Option(help="Seconds that the measurement takes.")] = 5.0,
    rate: Annotated[
        float | None, typer.Option(help="Samples a second of one device, measured elsewhere, instead of MODEL.")
    ] = None,
    votes_from: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="A radius table, or its run folder, whose votes predict the run's, instead of a measurement.",
            callback=table_in,
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=1, max=10**9, help="Number of images to certify.", show_default="the protocol's, or TABLE's rows"
        ),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Number of devices of this speed that share the images.")] = 1,
    price_per_hour: Annotated[
        float | None, typer.Option(help="Price of one device for an hour, in any currency.")
    ] = None,
    dtype: options.Precision = None,
    batch_size: options.BatchSize = "auto",
    compile: options.Compile = "auto",
    device: options.Device = "auto",
    noise: options.Noise = "exact",
    seed: Annotated[int, typer.Option(help="Seed of the measurement's noise, which no run draws.")] = 0,
    arch: options.Arch = None,
    normalize: options.Normalize = None,
    weights: options.Weights = None,
    data_root: options.DataRoot = None,
) -> None:
    """Estimate the largest radius, the samples, the time and the cost of a run.

    Nothing is written.

    Without MODEL it prints the largest radius, the samples that each radius needs, and the samples that an image of
    known probability takes. With MODEL it also estimates time and cost, from a few seconds of sampling.

    With --rate instead of MODEL it estimates time and cost alone, for example with --images 1000000 --devices 64. The
    procedures that stop early need votes for that: --votes-from TABLE.
    """
    named = arguments.radii(radii)
    wanted = None if named is None else tuple(sorted(set(named)))
    if not 0 < pilot_seconds < float("inf"):
        raise ValueError(f"--pilot-seconds must be a positive number of seconds, got {pilot_seconds}.")
    if price_per_hour is not None and not 0 <= price_per_hour < float("inf"):
        raise ValueError(f"--price-per-hour must not be negative, got {price_per_hour}.")
    _require_speed(model, rate, votes_from, images, sized=(images, price_per_hour) != (None, None) or devices > 1)
    table = None if votes_from is None else cost.read_finished(votes_from)
    default_alpha, default_n0 = (0.001, 100) if table is None else (table.alpha, table.n0)
    level = default_alpha if alpha is None else alpha
    settings = ProcedureSettings(n0=default_n0 if n0 is None else n0, n=n, alpha=level, bound=bound)

    def sampling_at(sigma: float, procedure: str = procedure, radii: tuple[float, ...] | None = wanted) -> Sampling:
        sampling = dataclasses.replace(settings, procedure=procedure).at(sigma)
        _require_reach(sampling, radii or ())
        return sampling if procedure == "fixed" else dataclasses.replace(sampling, radii=radii)

    def costs(pilot: cost.Pilot, sigma: float, images: int) -> str:
        rows = [("fixed", sampling_at(sigma, "fixed", None))]
        if pilot.votes is not None:
            rows.append(("sequential, whole curve", sampling_at(sigma, "sequential", None)))
            for kind in ("sequential", "anytime") if wanted else ():
                with contextlib.suppress(ValueError):  # out of reach: said before, if it is the procedure asked for
                    rows.append((f"{kind}, these radii", sampling_at(sigma, kind)))
        return cost.costs(pilot, rows, images, devices, price_per_hour)

    if rate is not None:
        at = 1.0 if sigma is None else sigma  # fixed takes as many at any
        total = images or 0  # `_require_speed` has refused none
        if table is not None:
            at, total = table.at(sigma), images or len(table.votes.n)
            print(_settings(sampling_at(at)) + "\n")
        print(costs(cost.given(rate, table), at, total))
        return
    if model is None:
        if sigma is None:
            raise ValueError("without a MODEL the noise is not known; pass --sigma.")
        print(_reach(sampling_at(sigma), wanted))
        return
    from maxup_smoothing.certify.runs.images import ImageOptions
    from maxup_smoothing.certify.runs.session import Request, open_session

    request = Request(
        model=model,
        data=data,
        split=split,
        protocol=protocol,
        limit=limit,
        sigma=sigma,
        dtype=dtype,
        batch_size=arguments.batch_size(batch_size),
        compile=compile,
        device=device,
        noise=noise,
        seed=seed,
        out=Path("plan.tsv"),  # nothing is written, and no table of this name is read
        overwrite=True,
        arch=arch,
        normalize=normalize,
        data_root=data_root,
        weights=weights,
        class_map=class_map,
        images=ImageOptions(resize=resize, crop=crop, interpolation=interpolation, grayscale=grayscale, labels=labels),
    )
    session = open_session(request, "plan.tsv", dataclasses.replace(settings, procedure=procedure))
    if table is not None:
        table.at(session.sigma)
    print(_reach(sampling_at(session.sigma), wanted), flush=True)
    measured = cost.measured(_measure(session, noise, pilot_seconds), table)
    print("\n" + costs(measured, session.sigma, images or len(session.indices)))


def _reach(sampling: Sampling, wanted: tuple[float, ...] | None) -> str:
    """What needs no model."""
    sigma, alpha, n = sampling.sigma, sampling.alpha, sampling.most
    at_n = [dataclasses.replace(sampling, procedure=name, n=n, radii=None) for name in PROCEDURES]
    ceilings = [f"{name} {floor_text(at.ceiling, 4)}" for name, at in zip(PROCEDURES, at_n, strict=True)]
    lines = [
        _settings(sampling),
        f"largest radius, all votes for one class: {', '.join(ceilings)}",
        "",
        "n that certify a radius with one look (fixed, clopper-pearson): fewest, all votes for one class,",
        "and with probability 0.99 for an input whose true radius is so many times as large",
        f"{'radius':>8}{'p':>10}{'fewest':>14}" + "".join(f"{f'{margin:g} x':>14}" for margin in _MARGINS),
    ]
    radii = sorted(set(wanted or sampling.to_decide))
    fixed = dataclasses.replace(at_n[0], bound="clopper-pearson")
    for radius in radii:
        numbers = [unanimous_n(radius, fixed)]
        if radius > 0:
            numbers += [n_for_power(radius, radius * margin, alpha=alpha, sigma=sigma) for margin in _MARGINS]
        texts = "".join(f"{'over 1e9' if number is None else number:>14}" for number in numbers)
        lines.append(f"{radius:>8g}{probability_at(radius, sigma):>10.5f}{texts}")
    lines.append("")
    if sampling.procedure == "fixed":
        return "\n".join([*lines, f"fixed draws n0 + n = {sampling.n0 + n} samples for every image."])
    shown = radii if 1 < len(radii) <= _COLUMNS else []
    columns = [dataclasses.replace(sampling, radii=(radius,)) for radius in shown]
    columns.append(dataclasses.replace(sampling, radii=tuple(radii)))
    lines += [
        f"mean samples until {sampling.procedure} has decided a radius, for a class of probability p",
        f"(exact; the n0 = {sampling.n0} samples that select the class come on top)",
        f"{'p':>8}{'radius':>9}"
        + "".join(f"{f'at {radius:g}':>12}" for radius in shown)
        + f"{'all of them' if len(radii) > 1 else f'at {radii[0]:g}':>14}",
    ]
    if sampling.bound == "joint":
        lines.insert(-1, "with one runner-up, which takes all other votes")
    for p in _PROBABILITIES:
        true = sigma * float(special.ndtri(p))
        means = [f"{expectation(column, p).samples:,.0f}" for column in columns]
        cells = "".join(f"{mean:>12}" for mean in means[:-1]) + f"{means[-1]:>14}"
        lines.append(f"{p:>8g}{true if true > 0 else 0:>9.4f}{cells}")
    return "\n".join(lines)


def _settings(sampling: Sampling) -> str:
    return f"sigma {sampling.sigma:g}, alpha {sampling.alpha:g}, n {sampling.most}, bound {sampling.bound}"


def _measure(session: "Session", noise: str, seconds: float) -> cost.Pilot:
    """Votes of some images of the protocol, evenly spaced, in about so many seconds."""
    import torch

    from maxup_smoothing.certify.engine.votes import Item, count_votes
    from maxup_smoothing.certify.models.tuning import seconds_a_batch
    from maxup_smoothing.certify.noise import ESTIMATION, SELECTION
    from maxup_smoothing.certify.noise.source import noise_source

    f, shape = session.classifier, session.dataset.images.shape[1:]
    source = noise_source(noise, session.sigma, session.seed ^ _PILOT_KEY)
    alone = f.batch_size / seconds_a_batch(f, shape)

    def timed(items: list[Item]) -> tuple[NDArray[np.int64], float, int]:
        start, rows = time.perf_counter(), sum(item.stop - item.start for item in items)
        votes = count_votes(f, source, items)
        return votes, time.perf_counter() - start, -(-rows // f.batch_size) * f.batch_size

    def image(index: int) -> torch.Tensor:
        return torch.from_numpy(session.dataset.images[index])

    for _ in range(2):  # the first prepares
        _, spent, rows = timed([Item(image(session.indices[0]), session.indices[0], SELECTION, 0, f.batch_size)])
    affordable, total = seconds * rows / spent, len(session.indices)
    images = min(total, max(_PILOT_IMAGES[0], min(_PILOT_IMAGES[1], int(affordable / 200))))
    samples = max(_PILOT_SAMPLES[0], min(_PILOT_SAMPLES[1], int(affordable / images)))
    selection = int(samples * _SELECTION)
    chosen = [session.indices[number * total // images] for number in range(images)]
    items = [Item(image(index), index, SELECTION, 0, selection) for index in chosen]
    items += [Item(image(index), index, ESTIMATION, 0, samples - selection) for index in chosen]
    votes, spent, rows = timed(items)
    selected = votes[:images, :-1].argmax(axis=1)
    return cost.Pilot(
        votes=cost.Votes(
            n_a=votes[images:][np.arange(images), selected],
            n=np.full(images, samples - selection),
            error=source.probability_error(int(np.prod(shape))),
        ),
        rate=rows / spent,
        text=f"pilot: {images} of {total} images, {samples} samples each, in {spent:.1f} s: "
        f"{rows / spent:,.0f} samples/s\n({alone:,.0f} without the noise), {f.arithmetic}, batches of {f.batch_size} "
        f"on {f.device}, {noise} noise",
    )


def _require_speed(
    model: str | None, rate: float | None, votes_from: Path | None, images: int | None, *, sized: bool
) -> None:
    """Refuse what has no speed, or two, or no number of images."""
    if rate is not None and not 0 < rate < float("inf"):
        raise ValueError(f"--rate must be a positive number of samples a second, got {rate}.")
    if model is not None and rate is not None:
        raise ValueError(
            "MODEL's speed is measured, and --rate is another one; pass one of them. For MODEL on another device "
            "certify some images here, and pass their table with --votes-from."
        )
    if model is None and rate is None and votes_from is not None:
        raise ValueError("--votes-from gives votes but no speed; pass --rate, or a MODEL whose speed is measured.")
    if model is None and rate is None and sized:
        raise ValueError("--images, --devices and --price-per-hour need a speed; pass a MODEL, or --rate.")
    if rate is not None and votes_from is None and images is None:
        raise ValueError("without a MODEL the number of images is not known; pass --images, or --votes-from TABLE.")


def _require_reach(sampling: Sampling, radii: Sequence[float]) -> None:
    """Refuse radii that no vote of n samples certifies."""
    largest = max(radii, default=0.0)
    if largest > sampling.ceiling:
        needed = unanimous_n(largest, sampling)
        raise ValueError(
            f"radius {largest:g} is above {floor_text(sampling.ceiling, 4)}, that of a unanimous vote of "
            f"n = {sampling.most} samples with {sampling.procedure}; "
            + (f"pass --n {needed} or more." if needed else "no n up to 1e9 reaches it: leave it out.")
        )
