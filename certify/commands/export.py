"""``certify export``: the certified network as a file of another runtime, with the radii that hold there."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.certify.commands import arguments, options
from maxup_smoothing.certify.commands.transfer import AlphaShare, PairCount, Rows, TransferredAlpha, carry_over
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.tables.manifest import manifest_path


def export(
    file: options.WithManifest,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="The certified network, as for `certify run`.", show_default="the manifest's"
        ),
    ] = None,
    *,
    to: Annotated[Path, typer.Option(metavar="FILE.onnx|.pt2|.pt", help="The new file; its ending says the kind.")],
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows of a forward pass where it is served.", show_default="as certified")
    ] = None,
    pairs: PairCount = 10_000,
    alpha: TransferredAlpha = None,
    alpha_share: AlphaShare = 0.5,
    limit: Rows = None,
    radii: Annotated[str | None, typer.Option(help="Radii of the printed table, such as 0,0.25,0.5.")] = None,
    data: options.RecordedData = None,
    device: options.RecordedDevice = None,
    data_root: options.DataRoot = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the new files.")] = False,
) -> None:
    """Export the certified network to ONNX, torch.export or TorchScript, with the radii that hold for it.

    The exported network rounds otherwise, so it is another function than the certified one. Both classify the same
    noisy copies of the run's images, as in `certify transfer`. For model.onnx the radii that hold are written to
    model.onnx.radii.tsv. If none does, nothing is written.
    """
    import torch

    from maxup_smoothing.certify.noise.source import noise_source
    from maxup_smoothing.certify.preflight import independence
    from maxup_smoothing.certify.runs.reopen import Overrides, reopen_table
    from maxup_smoothing.certify.tables import manifest as manifests
    from maxup_smoothing.certify.transfer.export import require_kind, require_same_logits, write_export
    from maxup_smoothing.certify.transfer.run import Deployment, open_transfer

    wanted = arguments.radii(radii)
    require_kind(to)
    table = to.with_name(f"{to.name}.radii.tsv")
    new = (to, manifest_path(table), table)
    taken = {path.resolve() for path in (file, manifest_path(file))}
    if there := [path for path in new if path.exists() and not overwrite]:
        raise ValueError(f"{there[0]} is there already; pass --overwrite or another --to.")
    if taken & {path.resolve() for path in new}:
        raise ValueError(f"{table} would replace {file} or its manifest; pass another --to.")
    given = Overrides(model=model, data=data, data_root=data_root, device=device)
    stored = manifests.read(manifest_path(file))
    session = reopen_table(file, stored, given, of_rows=True).session
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as folder:
        staged = [Path(folder) / path.name for path in new]
        write_export(session, staged[0])
        deployment = Deployment(model=str(staged[0]), batch_size=batch_size, device="cpu", compiled=False, folded=False)
        opened = open_transfer(file, deployment, given, pairs=pairs, alpha=alpha, split=alpha_share, limit=limit)
        opened.manifest["notes"]["model"] = str(to)
        f = opened.session
        apart = noise_source("exact", f.sigma, f.seed ^ independence.KEY)
        require_same_logits(f.classifier, opened.deployed, torch.from_numpy(f.dataset.images[:16]), apart)
        rows = carry_over(file, staged[2], opened, wanted)
        if all(row.predict == ABSTAIN for row in rows):
            raise ValueError(
                f"none of the {len(rows)} certificates holds for the exported network, so nothing is written; draw "
                "more --pairs, or certify the exported file itself with `certify run`."
            )
        for source, target in zip(staged, new, strict=True):
            os.replace(source, target)
    print(f"\n{to}    the network, for batches of any size; compared at batches of {opened.deployed.batch_size}")
    print(f"{table}    the radii that hold for it")
