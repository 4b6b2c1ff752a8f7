"""What the commands share: reading runs and numbers, and writing files without overwriting a table."""

import sys
from collections.abc import Collection, Sequence
from glob import glob
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.figure import Figure

from maxup_smoothing.analysis.comparison.settings import different_norm, refuted
from maxup_smoothing.analysis.figures import curves
from maxup_smoothing.analysis.runs import run as runs
from maxup_smoothing.analysis.runs.groups import by_class, by_difficulty
from maxup_smoothing.certify.logs.reader import is_log_folder
from maxup_smoothing.data.runtime import console
from maxup_smoothing.data.runtime.atomic import write_atomically

TABLE = "radii.tsv"
PARTS = ("class", "difficulty")

Files = Annotated[
    list[Path], typer.Argument(metavar="FILE...", show_default=False, help="Radius tables, logs or run folders.")
]
Labels = Annotated[str | None, typer.Option(help="Names of the runs, separated by commas, in the order of the files.")]
FigureOut = Annotated[Path, typer.Option(show_default=False, help="File of the figure: .png, .svg or .pdf.")]


def load(files: Sequence[Path], labels: str | None = None) -> list[runs.Run]:
    """The runs, with what their readers note on stderr, and warnings where they are not comparable.

    They are not where images, norms or settings differ, also settings that only the radii tell.
    """
    loaded = runs.load([table_of(path) for path in files], _labels(labels))
    _print_warnings(loaded, loaded)
    return loaded


def load_curves(files: Sequence[Path], labels: str | None = None) -> list[runs.Run | runs.Traced]:
    """The same, and the files that hold a curve alone, in the order of the files."""
    found = runs.load_all([table_of(path) for path in files], _labels(labels))
    _print_warnings(found, [one for one in found if isinstance(one, runs.Run)])
    return found


def _labels(labels: str | None) -> list[str] | None:
    return None if labels is None else [label.strip() for label in labels.split(",")]


def _print_warnings(found: Sequence[runs.Run | runs.Traced], loaded: Sequence[runs.Run]) -> None:
    for one in found:
        print_notes(one.notes, one.name)
    if len(loaded) < 2:
        return
    norms = different_norm(loaded)
    for warning in (
        None if (images := runs.different_images(loaded)) is None else f"not comparable: {images}.",
        None if (differing := runs.different_sigma(loaded)) is None else f"{differing}.",
        None if norms is None else f"not comparable: {norms}.",
        None if norms is not None or (why := refuted(loaded)) is None else f"{why}: not the same settings.",
    ):
        if warning is not None:
            print(console.one_line(f"warning: {warning}"), file=sys.stderr)


def print_notes(notes: Sequence[str], name: str) -> None:
    """What a log's reader assumed, repaired or knows to be wrong, a line each on stderr."""
    for note in notes:
        print(console.one_line(f"note: {name}: {note}"), file=sys.stderr)


def tables_of(paths: Sequence[Path]) -> list[Path]:
    """The radius tables of run folders, and files as they are; of several, a folder without a table is left out.

    Raises:
        ValueError: If no table is left.
    """
    return [table_of(path) for path in holding(paths, (TABLE,), "radius table")]


def holding(paths: Sequence[Path], names: Collection[str], what: str) -> list[Path]:
    """The paths without those folders that hold no file of these names, each of which is said on stderr.

    A pattern such as ``runs/*`` also finds folders that hold runs only further down. Where nothing would be left, all
    stay: whoever reads them knows what is missing.
    """
    empty = [
        path
        for path in paths
        if path.is_dir()
        and not any((path / name).is_file() for name in names)
        and not (TABLE in names and is_log_folder(path))
    ]
    if len(empty) == len(paths):
        return list(paths)
    for path in empty:
        print(console.one_line(f"note: {path} holds no {what} and is left out"), file=sys.stderr)
    return [path for path in paths if path not in empty]


def meant(path: Path, names: Collection[str]) -> Path | None:
    """The first folder below, by depth and name, that holds a file of these names; None without one."""
    for depth in ("*", "*/*"):
        for name in names:
            if found := sorted(path.glob(f"{depth}/{name}")):
                return found[0].parent
    return None


def table_of(path: Path) -> Path:
    """The radius table of a run folder; a file, and a folder of arrays that is a log, as it is.

    Raises:
        ValueError: If a folder has no radius table and is not a log.
    """
    if path.is_dir() and not (path / TABLE).is_file():
        if is_log_folder(path):
            return path
        below = meant(path, (TABLE,))
        advice = f"did you mean {below}?" if below is not None else f"certify its model with `certify run {path}`."
        raise ValueError(f"{path} has no {TABLE}; {advice}")
    return path / TABLE if path.is_dir() else path


def matching(pattern: str) -> list[Path]:
    """The radius tables that a file, a folder or a pattern such as ``runs/maxup-*`` names, in the order of names.

    Raises:
        ValueError: If there are none.
    """
    if Path(pattern).exists():
        return [table_of(Path(pattern))]
    found = sorted(glob(pattern))
    if not found:
        raise ValueError(
            f"there is no file or folder {pattern}; name a radius table, a run folder, or a quoted pattern."
        )
    return tables_of([Path(path) for path in found])


def numbers(text: str, option: str = "--radii") -> list[float]:
    """Numbers separated by commas.

    Raises:
        ValueError: If one is not a number, or is there twice.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{option} must be numbers separated by commas, such as 0,0.25,0.5, got {text[:200]!r}."
        ) from None
    if len(set(found)) < len(found):
        raise ValueError(f"{option} must name each number once, got {text[:200]!r}.")
    return found


def divided(run: runs.Run, by: str, reference: Path | None) -> list[runs.Run]:
    """The run's parts by class, named where the data set is a well-known one, or by a reference's difficulty.

    Raises:
        ValueError: If ``by`` is neither, the reference is missing, superfluous or of the same network, or a manifest
            cannot be read.
    """
    if by not in PARTS:
        raise ValueError(f"--by must be one of {', '.join(PARTS)}, got {by!r}.")
    if (by == "difficulty") != (reference is not None):
        raise ValueError(
            "--reference FILE, another classifier's table, goes with --by difficulty and with nothing else."
        )
    if reference is None:
        return by_class(run, run.class_names)
    (judge,) = runs.load([table_of(reference)])
    own, other = (one.told("classifier", "weights_sha256") for one in (run, judge))
    if own is not None and own == other:
        raise ValueError(f"{reference} is of the same network as {run.name}; judge difficulty by another classifier.")
    return by_difficulty(run, judge)


def write_figure(figure: Figure, out: Path) -> None:
    """Write a figure, whole or not at all, and say so."""
    write_atomically(out, curves.encode(figure, out.suffix))
    print(f"wrote {out}")


def require_figure(out: Path) -> None:
    """Refuse what no figure can be written as, or would cost a radius table, before anything is computed.

    Raises:
        ValueError: If the suffix is not one of `figures.FORMATS`, or the file is a radius table.
    """
    curves.require_format(out.suffix)
    require_no_table(out)


def require_no_table(out: Path) -> None:
    """A slip in the arguments must not cost hours of certification."""
    if out.is_file() and out.read_bytes()[:17] == b"idx\tlabel\tpredict":
        raise ValueError(f"{out} is a radius table, which would be overwritten; give another --out.")
