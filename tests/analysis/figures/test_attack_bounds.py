"""The table of `certify attack` as the upper bound of its figure."""

from pathlib import Path

import numpy as np
import pytest
from analysis_call import call
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from written_tables import write_run

from maxup_smoothing.analysis.commands import figures
from maxup_smoothing.analysis.figures.attack_bounds import attacked_part, attacks_of, draw_attack_bounds
from maxup_smoothing.analysis.runs.run import Run, common_conditions, load
from maxup_smoothing.certify.attack.projection import budget
from maxup_smoothing.certify.attack.table import AttackRow, AttackTable
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.tables import manifest


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Labels 3; of 1000 votes 300, 700, 900 and 1000 are for it."""
    return load([write_run(tmp_path / "ours" / "radii.tsv", [300, 700, 900, 1000])])[0]


def row_of(
    run: Run, image: int, epsilon: float, attacked: int, confirmed: str = "", factor: float | None = None
) -> AttackRow:
    certified = run.table[run.table["idx"] == image].iloc[0]
    votes = {0 if attacked == ABSTAIN else attacked: 60, 9: 40}
    return AttackRow(
        idx=image,
        label=int(certified["label"]),
        predict=int(certified["predict"]),
        radius=float(certified["radius"]),
        goal=int(epsilon * 100),
        factor=factor,
        epsilon=epsilon,
        attack="pgd",
        squares=budget(epsilon),
        attacked_predict=attacked,
        n=100,
        counts=votes,
        confirmed=confirmed,
        confirm_counts={attacked: 900, 9: 100} if confirmed else {},
        seconds=1.0,
    )


def write(path: Path, rows: list[AttackRow]) -> Path:
    AttackTable.write(path, {"attack": {}}, rows)
    return path


def test_accuracy_under_attack_comes_from_the_attacked_predictions(run: Run) -> None:
    rows = [row_of(run, image, 0.25, attacked) for image, attacked in ((1, 5), (2, 3), (3, 3))]
    rows += [row_of(run, 3, 2.0, ABSTAIN), row_of(run, 3, 1.0, 3, factor=0.9)]
    found = attacks_of(run, rows)
    assert {epsilon: (one.right, one.abstained, one.images, one.broken) for epsilon, one in found.items()} == {
        0.25: (2, 0, 3, ()),
        2.0: (0, 1, 1, ()),
    }
    assert attacked_part(run, rows).table["idx"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("confirmed", ["yes", "no"])
def test_only_what_was_confirmed_breaks_a_certificate(
    run: Run, confirmed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row_of(run, 3, 0.25, 5, confirmed)]
    assert attacks_of(run, rows)[0.25].broken == ((3,) if confirmed == "yes" else ())
    table, out = write(tmp_path / "ours" / "attacks.tsv", rows), tmp_path / "s.svg"
    status = call(monkeypatch, "attack-bounds", str(tmp_path / "ours"), "--attacked", str(table), "--out", str(out))
    assert status == (2 if confirmed == "yes" else 0)
    assert ("ALARM" in capsys.readouterr().err) == (confirmed == "yes")
    assert out.read_bytes().startswith(b"<?xml")


def test_attacks_of_another_table_or_without_a_fixed_norm_are_refused(run: Run, tmp_path: Path) -> None:
    other = load([write_run(tmp_path / "theirs" / "radii.tsv", [300, 700, 900, 999])])[0]
    with pytest.raises(ValueError, match="1 of 1 attacks are of images that ours lacks or certifies at another radius"):
        attacks_of(run, [row_of(other, 3, 0.25, 3)])
    with pytest.raises(ValueError, match="run `certify attack` with --radii"):
        attacks_of(run, [row_of(run, 3, 1.0, 3, factor=0.9)])


def test_a_norm_is_given_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(write(tmp_path / "ours" / "attacks.tsv", [row_of(run, 3, 0.25, 3)]))
    out = str(tmp_path / "s.svg")
    arguments = ["attack-bounds", str(tmp_path / "ours"), "--attacked", table, "--attacked", table, "--out", out]
    assert call(monkeypatch, *arguments) == 2
    assert "--attacked must name each EPS once" in capsys.readouterr().err


def tell(table: Path, data: str, arch: str = "lenet") -> Path:
    """Write what the manifest beside a table says it is about."""
    manifest.write(manifest.manifest_path(table), {"schema": 1, "data": {"name": data}, "model": {"arch": arch}})
    return table


def drawn(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Figure:
    """The figure that a command would write."""
    found = list[Figure]()
    monkeypatch.setattr(figures, "write_figure", lambda figure, out: found.append(figure))
    assert call(monkeypatch, *arguments, "--out", "x.png") == 0
    return found[0]


def test_the_figure_of_bounds_says_which_images_it_is_about(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(tmp_path / "ours" / "radii.tsv", "mn$ist")
    rows = [row_of(run, image, epsilon, 3) for image in (1, 2, 3) for epsilon in (0.0, 0.25)]
    attacks = write(tmp_path / "ours" / "attacks.tsv", rows)
    figure = drawn(monkeypatch, "attack-bounds", str(tmp_path / "ours"), "--attacked", str(attacks))
    assert figure.get_suptitle().splitlines() == [
        r"mn\$ist, network lenet, noise σ = 0.5",
        "3 images that were attacked, of 4 certified",
        "certificates: n = 1,000 samples, alpha = 0.001",
    ]
    whole = draw_attack_bounds(run, attacks_of(run, rows)).get_suptitle()
    assert whole.splitlines()[0] == "4 images"  # no part, and no title


def test_an_abstention_is_no_success_of_an_attack(run: Run) -> None:
    rows = [row_of(run, image, 0.25, attacked) for image, attacked in ((1, 5), (2, ABSTAIN), (3, 3))]
    (bars,) = [
        part
        for part in draw_attack_bounds(attacked_part(run, rows), attacks_of(run, rows)).axes[0].containers
        if isinstance(part, ErrorbarContainer)
    ]
    assert np.asarray(bars.lines[0].get_ydata()).tolist() == [2 / 3]


def test_nothing_of_the_figure_of_bounds_is_cut_off_or_unnamed(run: Run) -> None:
    rows = [row_of(run, image, epsilon, 3) for image in (1, 2, 3) for epsilon in (0.0, 0.25)]
    axes = draw_attack_bounds(attacked_part(run, rows), attacks_of(run, rows)).axes[0]
    (bars,) = [part for part in axes.containers if isinstance(part, ErrorbarContainer)]
    assert axes.get_xlim()[0] < 0  # room for half of the mark at 0
    assert not any(artist.get_clip_on() for artist in bars.get_children())  # nor is that at an accuracy of 1 cut
    assert [text.get_text() for text in axes.texts] == ["ceiling 1.231"]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text().split(":")[0] for text in legend.get_texts()] == [
        "certified, ours",
        "between",
        "not wrong under attack (95 % interval)",
    ]


def test_a_curve_is_titled_with_what_its_runs_have_in_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write_run(tmp_path / name / "radii.tsv", [300, 700]) for name in ("a", "b")]
    assert common_conditions(load(files)) == "noise σ = 0.5"  # no manifest: what the rows tell
    for file in files:
        tell(file, "mnist")
    assert common_conditions(load(files)) == "mnist, network lenet, noise σ = 0.5"
    tell(files[1], "mnist", arch="resnet110")
    other = [files[0], write_run(tmp_path / "c" / "radii.tsv", [300], sigma=0.25)]
    assert common_conditions(load(files)) == "mnist, noise σ = 0.5"
    assert common_conditions(load(other)) is None
    arguments = ["curve", *map(str, files)]
    assert drawn(monkeypatch, *arguments).get_suptitle().splitlines()[0] == "mnist, noise σ = 0.5"
    assert drawn(monkeypatch, *arguments, "--title", "mine").get_suptitle().splitlines()[0] == "mine"
