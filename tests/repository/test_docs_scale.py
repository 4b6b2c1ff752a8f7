"""The sizing table of docs/scale.md is what its command prints."""

import re
import shlex

import pytest
import typer
from places import ROOT
from typer.testing import CliRunner

from maxup_smoothing.certify.commands import plan

TEXT = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
COMMAND, PRINTED = re.findall(r"^\$ certify plan (.*)\n((?:.*\n)*?)```$", TEXT, flags=re.MULTILINE)[0]
SIZING = TEXT[TEXT.index("## Sizing") :].splitlines()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in SIZING if line.startswith("| ")]
HEADER, SIZES = ROWS[0], ROWS[1:]


def output(monkeypatch: pytest.MonkeyPatch, **changed: str) -> str:
    """What the document's command prints, from the root of the project, with options changed."""
    monkeypatch.chdir(ROOT)
    app, arguments = typer.Typer(), shlex.split(COMMAND)
    app.command()(plan.plan)
    for name, value in changed.items():
        arguments += [f"--{name}", value.replace(",", "")]  # of two equal options the last counts
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_prints_what_the_document_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert output(monkeypatch) == PRINTED


@pytest.mark.parametrize("n", list(dict.fromkeys(row[2] for row in SIZES)))
def test_device_hours_are_those_that_the_command_prints(n: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert HEADER == ["model", "samples/s", "n", "procedure", "500", "10,000", "50,000", "1,000,000"]
    hours = dict[tuple[str, str], dict[str, str]]()
    for row in (row for row in SIZES if row[2] == n):
        for images, cell in zip(HEADER[4:], row[4:], strict=True):
            if (row[1], images) not in hours:
                lines = output(monkeypatch, rate=row[1], n=n, images=images).splitlines()
                start = next(number for number, line in enumerate(lines) if "device hours" in line)
                column = slice(60, lines[start].index("device hours") + len("device hours"))
                hours[row[1], images] = {line[:23].strip(): line[column].strip() for line in lines[start + 1 :]}
            assert hours[row[1], images][row[3]] == cell, f"{row}, {images} images"


def test_the_rates_are_those_of_the_benchmarks() -> None:
    measured = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    rates = {row[0]: row[1] for row in SIZES}
    assert list(rates) == ["LeNet", "ResNet-20", "ResNet-110", "ResNet-50, ImageNet"]
    line = next(line for line in measured.splitlines() if line.startswith("| engine, float32, compiled |"))
    assert [cell.split()[0] for cell in line.strip("|").split("|")[1:]] == list(rates.values())[:3]
    assert rates["ResNet-50, ImageNet"] == f"{100_100 / 151.7:.0f}"
