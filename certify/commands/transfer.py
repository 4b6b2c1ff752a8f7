"""``certify transfer``: from the classifier that was certified to the one that is served."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from maxup_smoothing.certify.commands import arguments, options
from maxup_smoothing.certify.statistics import rounding
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.disagreement import Pairs
from maxup_smoothing.certify.statistics.radius import ceiling_radius, certified_radius
from maxup_smoothing.certify.tables import summary
from maxup_smoothing.certify.tables.manifest import manifest_path
from maxup_smoothing.certify.tables.radius_table import read
from maxup_smoothing.certify.transfer.table import Transfer, TransferredRow, TransferredTable
from maxup_smoothing.data.runtime import console

if TYPE_CHECKING:  # it brings torch, whose import takes seconds
    from maxup_smoothing.certify.transfer.run import Opened

PairCount = Annotated[int, typer.Option(help="Noisy copies of each image that both networks classify.")]
TransferredAlpha = Annotated[
    float | None,
    typer.Option(help="Failure probability of each transferred certificate.", show_default="the table's own"),
]
AlphaShare = Annotated[float, typer.Option(help="Share of alpha spent on the pairs; the votes get the rest.")]
Rows = Annotated[int | None, typer.Option(min=1, help="Transfer only this many rows, the first of the table.")]

_TO = "{} of the deployed network."


def transfer(
    file: options.WithManifest,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="The certified network, as for `certify run`.", show_default="the manifest's"
        ),
    ] = None,
    *,
    out: Annotated[
        Path,
        typer.Option(parser=options.new_table, metavar="FILE|FOLDER/", help="The new radius table, another file."),
    ],
    to_model: Annotated[str | None, typer.Option(help="The deployed network, if it is another file or name.")] = None,
    to_dtype: Annotated[str | None, typer.Option(help=_TO.format("Arithmetic"), show_default="as certified")] = None,
    to_batch_size: Annotated[
        int | None, typer.Option(min=1, help=_TO.format("Batch size"), show_default="as certified")
    ] = None,
    to_device: Annotated[
        str | None, typer.Option(metavar="cpu|cuda|cuda:N", help=_TO.format("Device"), show_default="as certified")
    ] = None,
    to_compile: Annotated[
        str | None, typer.Option(metavar="on|off", help=_TO.format("torch.compile"), show_default="as certified")
    ] = None,
    to_folding: Annotated[
        str, typer.Option(metavar="on|off", help="off leaves its batch norms as they are in the file.")
    ] = "on",
    to_arch: Annotated[
        str | None, typer.Option(help="Architecture of another project's weights in --to-model.")
    ] = None,
    to_normalize: Annotated[str | None, typer.Option(help="Normalisation in front of --to-model.")] = None,
    to_weights: Annotated[
        str | None,
        typer.Option(metavar="ema|raw|NAME", help="Which set of weights to take from --to-model, if it has several."),
    ] = None,
    pairs: PairCount = 10_000,
    alpha: TransferredAlpha = None,
    alpha_share: AlphaShare = 0.5,
    limit: Rows = None,
    radii: Annotated[str | None, typer.Option(help="Radii of the printed table, such as 0,0.25,0.5.")] = None,
    data: options.RecordedData = None,
    device: Annotated[
        str | None, typer.Option(help="Where the certified network runs.", show_default="as the table was made")
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(help="Architecture of another project's weights in MODEL.", show_default="the manifest's"),
    ] = None,
    normalize: Annotated[
        str | None, typer.Option(help="Normalisation in front of MODEL.", show_default="the manifest's")
    ] = None,
    weights: options.RecordedWeights = None,
    data_root: options.DataRoot = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
) -> None:
    """Carry certificates over to the network as it is served (another dtype or batch size).

    A network that was certified in bfloat16 at batch size 128 is another function in float32 at batch size 1, and its
    radii do not hold there. This command lets both classify the same noisy copies of each image. It bounds how often
    they differ and reduces the radii accordingly. Settings of the deployed network that are not given are those of the
    certified one. An interrupted command continues when it is called again.
    """
    from maxup_smoothing.certify.runs.reopen import Overrides
    from maxup_smoothing.certify.transfer.run import Deployment, open_transfer

    wanted = arguments.radii(radii)
    deployment = Deployment(
        model=to_model,
        dtype=to_dtype,
        batch_size=to_batch_size,
        device=to_device,
        compiled=None if to_compile is None else _switch("--to-compile", to_compile),
        folded=_switch("--to-folding", to_folding),
        arch=to_arch,
        normalize=to_normalize,
        weights=to_weights,
    )
    _require_other(file, out)
    opened = open_transfer(
        file,
        deployment,
        Overrides(
            model=model,
            data=data,
            data_root=data_root,
            device=device,
            arch=arch,
            normalize=normalize,
            weights=weights,
        ),
        pairs=pairs,
        alpha=alpha,
        split=alpha_share,
        limit=limit,
    )
    carry_over(file, out, opened, wanted, overwrite=overwrite)


def carry_over(
    file: Path, out: Path, opened: "Opened", wanted: list[float] | None, *, overwrite: bool = False
) -> list[TransferredRow]:
    """Transfer rows of a table to a new one, and print what is left and what it cost.

    Args:
        file: The table.
        out: The new table, or one to be continued.
        opened: Both classifiers.
        wanted: Radii of the printed table.
        overwrite: Whether to replace ``out``.

    Returns:
        The transferred rows.

    Raises:
        ValueError: If ``out`` is something else, or a classifier changes.
        OSError: If it cannot be written.
    """
    from maxup_smoothing.certify.transfer.run import transfer_rows

    pairs = opened.settings.pairs
    for text in opened.warnings:
        print(f"warning: {text}; a few answers may be rounded otherwise", file=sys.stderr)
    with TransferredTable.open(out, opened.manifest, overwrite=overwrite) as table:
        todo = sum(row.idx not in table.done for row in opened.rows)
        print(_task(opened, todo, out), file=sys.stderr, flush=True)
        with console.Meter("transferring", "images", todo, todo * pairs, "pairs") as meter:
            transfer_rows(opened, table, meter.advance)
        done = [table.done[row.idx] for row in opened.rows]
    old, new = read(file), read(out)
    print(summary.render(new, wanted))
    print(f"\n{_comparison(old[old['idx'].isin(new['idx'])], new, wanted)}\n\n{_pairs_text(done)}")
    print(_cost(opened, done))
    return done


def _require_other(file: Path, out: Path) -> None:
    taken = [path.resolve() for path in (file, manifest_path(file))]
    if {out.resolve(), manifest_path(out).resolve()} & {*taken}:
        raise ValueError(f"{out} would replace {file} or its manifest; write to a file of another stem or folder.")


def _switch(option: str, text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError(f"{option} must be on or off, got {text!r}.")
    return text == "on"


def _task(opened: "Opened", todo: int, out: Path) -> str:
    f, deployed = opened.session.classifier, opened.deployed
    texts = [f"{one.arithmetic} in batches of {one.batch_size} on {one.device}" for one in (f, deployed)]
    return (
        f"transferring {todo} of {len(opened.rows)} images from {texts[0]} to {texts[1]}, "
        f"{opened.settings.pairs} pairs each, into {out}"
    )


def _comparison(old: pd.DataFrame, new: pd.DataFrame, wanted: list[float] | None) -> str:
    """Certified accuracy before and after, of the same images."""
    radii = wanted or summary.radii_of(old)
    before, after = (summary.certified_share(table, radii)["certified"] for table in (old, new))
    lines = [f"{'radius':>8}  {'before':>13}  {'after':>13}   of {len(new)} images"]
    for radius, was, now in zip(radii, before, after, strict=True):
        lines.append(f"{rounding.radius_text(radius):>8}  {was:>13}  {now:>13}")
    return "\n".join(lines)


def _pairs_text(rows: Sequence[TransferredRow]) -> str:
    """How often the two differ."""
    drawn = [row for row in rows if row.transfer.n]
    if not drawn:
        return "pairs           none: the votes alone leave nothing to transfer"
    pairs = sum(row.transfer.n for row in drawn)
    differing = sum(row.transfer.differing for row in drawn)
    lost = sum(row.transfer.lost for row in drawn)
    worst = max(drawn, key=lambda row: row.transfer.differing)
    same = sum(not row.transfer.differing for row in drawn)
    most = f"{worst.transfer.differing} of {worst.transfer.n} (idx {worst.idx})"
    return (
        f"differing       {differing} of {pairs} pairs ({differing / pairs:.2g}), at most {most}, "
        f"none for {same} of {len(drawn)} images\n"
        f"lost            {lost} of them count against a certificate"
    )


def _cost(opened: "Opened", rows: Sequence[TransferredRow]) -> str:
    """What it costs, and what is lost even if no pair is."""
    settings, timing = opened.settings, opened.timing
    n, sigma = max(row.n for row in rows), rows[0].sigma
    here, more = (_ceiling(n, pairs, settings, sigma) for pairs in (settings.pairs, 10 * settings.pairs))
    zeta = Pairs(settings.pairs, 0, 0, settings.level).zeta_upper
    direct = ceiling_radius(settings.pairs, settings.alpha, sigma)
    lines = [
        f"ceiling         {rounding.floor_text(here, 4)} after it: zeta is at most {zeta:.2g} where no pair is lost; "
        f"{rounding.floor_text(more, 4)} with --pairs {10 * settings.pairs}",
        f"                {rounding.floor_text(direct, 4)} if the deployed one is certified with n = {settings.pairs}",
    ]
    if timing.samples:
        f, deployed = (1e3 * seconds / timing.samples for seconds in (timing.certified, timing.deployed))
        spent, whole = sum(row.seconds for row in rows), sum(row.n0 + row.n for row in rows) * deployed / 1e3
        lines.append(
            f"time            {spent:,.0f} s for the pairs; f {f:.3g} ms, the deployed one {deployed:.3g} ms a copy; "
            f"its own n0 + n\n                copies of each image would take it about {whole:,.0f} s"
        )
    return "\n".join(lines)


def _ceiling(n: int, pairs: int, settings: Transfer, sigma: float) -> float:
    """The largest radius of n unanimous votes and no lost pair."""
    level = settings.votes_alpha
    unanimous = Pairs(pairs, 0, 0, settings.level).carried(float(lower_confidence_bound(n, n, level)), 1.0, "")
    return float(certified_radius(unanimous[0], sigma))
