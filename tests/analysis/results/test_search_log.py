"""The log of a search: differences, order, and what is unfinished."""

import sys
from pathlib import Path

import pytest

from maxup_smoothing.analysis.__main__ import main
from maxup_smoothing.analysis.results.search import search_log_text

HEADER = "epoch,noisy_accuracy,validation_acr,seconds\n"


def folder(path: Path, config: str, *epochs: str) -> Path:
    path.mkdir()
    path.joinpath("config.toml").write_text('dataset = "mnist"\nepochs = 2\ndevice = "auto"\n' + config)
    path.joinpath("train.csv").write_text(HEADER + "".join(f"{line}\n" for line in epochs))
    return path


def test_runs_are_told_by_their_differences_and_the_best_comes_first(tmp_path: Path) -> None:
    runs = [
        folder(
            tmp_path / "a", 'lam = 5.0\nteacher = ""\naugment = ["crop", "flip"]\n', "1,0.5,,60", "2,0.6,0.71239,120"
        ),
        folder(
            tmp_path / "b", 'lam = 7.0\nteacher = ""\naugment = ["crop", "flip"]\n', "1,0.5,0.9,60", "2,0.625,0.8,60"
        ),
        folder(tmp_path / "c", 'lam = 5.0\nteacher = ""\naugment = []\n', "1,0.5,,90"),
    ]
    text = search_log_text(runs)
    assert text.startswith("In common: dataset = mnist, epochs = 2.\n\n| run |")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[4:]]
    assert lines == [
        [str(tmp_path / "b"), "lam = 7.0, augment = crop flip", "0.8000", "0.9000 (epoch 1)", "0.625", "2", "2"],
        [str(tmp_path / "a"), "lam = 5.0, augment = crop flip", "0.7123", "–", "0.600", "2", "3"],
        [str(tmp_path / "c"), "lam = 5.0, augment = none", "–", "–", "0.500", "1 of 2, unfinished", "2"],
    ]


def test_a_key_that_older_runs_lack_is_no_difference_unless_the_others_differ_in_it(tmp_path: Path) -> None:
    runs = [
        folder(tmp_path / "old", "lam = 5.0\n", "1,0.5,0.3,60"),
        folder(tmp_path / "new", "lam = 5.0\nema = 0.0\nworst_of = 1\n", "1,0.5,0.2,60"),
        folder(tmp_path / "newest", "lam = 5.0\nema = 0.0\nworst_of = 8\n", "1,0.5,0.1,60"),
    ]
    text = search_log_text(runs)
    assert text.startswith("In common: dataset = mnist, epochs = 2, lam = 5.0.\n")
    assert [line.split(" | ")[1] for line in text.splitlines()[4:]] == ["nothing", "worst_of = 1", "worst_of = 8"]


def test_runs_without_validation_come_last_by_name_and_equal_ones_by_name_too(tmp_path: Path) -> None:
    runs = [folder(tmp_path / name, "", "1,0.5,,60") for name in "zax"]
    runs += [folder(tmp_path / name, "", "1,0.5,0.5,60") for name in "dc"]
    lines = search_log_text(runs).splitlines()[4:]
    assert [line.split(" | ")[0] for line in lines] == [f"| {tmp_path / name}" for name in "cdaxz"]


def test_a_folder_without_its_files_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["analysis", "search-log", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path} has no config.toml: train it with `python -m train`.\n"
