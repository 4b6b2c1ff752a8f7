"""The real steps of the campaign: commands of this project, comparison by comparison."""

import shlex
import sys
from pathlib import Path

import pytest

from benchmarks import campaign, campaign_steps
from benchmarks.campaign_process import ROOT
from benchmarks.campaign_record import DONE, Record
from benchmarks.campaign_steps import Campaign
from maxup_smoothing.train import config_file


@pytest.mark.parametrize("listed", [campaign_steps.full(), campaign_steps.quick()])
def test_every_step_is_a_command_of_this_project(listed: Campaign) -> None:
    names = [step.name for step in listed.steps]
    assert len(set(names)) == len(names)
    made: set[str] = set()
    for number, step in enumerate(listed.steps):
        assert set(step.after) <= set(names[:number])
        command = list(step.command)
        assert command[0] == "-m"
        if command[1] == "maxup_smoothing.train":
            changes = [command[i + 1] for i, part in enumerate(command) if part == "--set"]
            settings = config_file.load(command[2], changes)
            folder = command[command.index("--out") + 1]
            assert command[-1] == "--resume"
            made.add(folder)
            if "graded" in folder:
                assert (settings.objective, settings.m) == ("consistency", 2)
                assert (settings.graded, settings.worst_of) == (True, 8)
            if "cifar10" in folder:
                assert f"{settings.arch}-{settings.sigma:.2f}" in folder
                assert settings.epochs == 150
        elif command[1] == "maxup_smoothing.certify":
            assert command[3] in made
        else:
            assert command[1] == "pytest" or (ROOT / Path(*command[1].split("."))).with_suffix(".py").is_file()
    for report in listed.reports:
        assert set(report.of) <= set(names)
        assert {part for part in report.command(report.of) if part in made} <= made


def test_a_comparison_is_whole_before_the_next_begins() -> None:
    names = [step.name for step in campaign_steps.full().steps]
    first = next(number for number, name in enumerate(names) if "cifar10" in name)
    assert [name.split("/")[0] for name in names[:first]] == [
        *["gpu-tests", *4 * ["engine_bench"], "noise_bench"],
        *3 * ["maxup_step"],
    ]
    methods = ["gaussian", "mean-of-4", "maxup-4", "graded-8"]
    blocks = [names[at : at + 8] for at in range(first, len(names), 8)]
    comparisons = []
    for block in blocks:
        name = block[0].split("/")[1]
        assert block == [f"{what}/{name}/{method}" for method in methods for what in ("train", "certify")]
        comparisons.append(name)
    assert comparisons[:4] == [f"cifar10-resnet{depth}-{sigma}" for depth in (20, 110) for sigma in ("0.50", "0.25")]
    assert comparisons[4:] == [f"{data}-seed-{seed}" for seed in range(3) for data in ("fashion-mnist", "mnist")]


def test_a_quick_comparison_is_trained_certified_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"campaign --out {shlex.quote(str(tmp_path))} --quick --only certify/fashion-sample/gaussian"
    monkeypatch.setattr(sys, "argv", shlex.split(arguments))
    with pytest.raises(SystemExit) as ended:
        campaign.main()
    told = capsys.readouterr()
    assert ended.value.code == 0, told
    assert {name: entry.status for name, entry in Record(tmp_path).entries.items()} == {
        "train/fashion-sample/gaussian": DONE,
        "certify/fashion-sample/gaussian": DONE,
        "results/fashion-sample": DONE,
    }
    assert (tmp_path / "results" / "fashion-sample.md").read_text().startswith("# Results\n")
    commands = [entry.command for entry in Record(tmp_path).entries.values()]
    assert all("{out}" in command and str(tmp_path) not in command for command in commands)
