import sys
from pathlib import Path
from typing import Any

import pytest
from result_folders import HEADER, folder, report

from maxup_smoothing.analysis.__main__ import main
from maxup_smoothing.analysis.literature.curves import Published
from maxup_smoothing.analysis.results.markdown import escaped
from maxup_smoothing.analysis.runs.folders import load_folders


def published(**changes: Any) -> Published:
    facts: dict[str, Any] = {
        "dataset": "mnist", "arch": "lenet", "method": "Gaussian", "sigma": 0.5, "subset": "skip20", "images": 500,
        "seeds": 5, "n": 1000, "alpha": 0.001, "acr": 0.44, "percent": {0.0: 75.0, 0.5: 90.0}, "source": "a_b/c|d",
    }  # fmt: skip
    return Published(**{**facts, **changes})


def test_a_line_a_run_with_its_conditions(tmp_path: Path) -> None:
    text = report(folder(tmp_path / "a")).markdown
    assert "## mnist, sigma 0.5\n" in text
    assert "| run | seed | images | n | alpha | ACR | 0.00 | 0.25 | 0.50 | 0.75 | 1.00 |" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| a | 7 |")]
    # (.5 + .25 + 0 + 1) / 4 = .4375; sd .37, so 1.96 sd / sqrt(500) = .0325.
    assert line.startswith("| a | 7 | 500 | 1000 | 0.001 | 0.4375 [0.40")
    assert line.endswith("] | 75.0 | 75.0 | 50.0 | 25.0 | 25.0 |")
    assert "| a | gaussian | lenet | 1 | 256 | float32 | 2 of 2 | 1,500 | 2.0 min |" in text
    for condition in ("training device: toaster", "training threads: 2", "noise seed: 11", "certification dtype: –"):
        assert f"- {condition}\n" in text
    assert "read with care" not in text


def test_runs_are_grouped_by_data_and_sigma_with_a_figure_each(tmp_path: Path) -> None:
    found = report(
        folder(tmp_path / "a"),
        folder(tmp_path / "b", sigma=1.0),
        folder(tmp_path / "c", dataset="cifar10"),
        folder(tmp_path / "d"),
    )
    assert list(found.figures) == ["cifar10-0.50.png", "mnist-0.50.png", "mnist-1.00.png"]
    for name in found.figures:
        assert f"](report/{name})\n" in found.markdown
    sections = found.markdown.split("\n## ")[1:]
    assert [section.splitlines()[0] for section in sections] == [
        "cifar10, sigma 0.5",
        "mnist, sigma 0.5",
        "mnist, sigma 1",
    ]
    assert "| a |" in sections[1]
    assert "| d |" in sections[1]
    assert "| 0.00 | 0.50 | 1.00 | 1.50 | 2.00 |" in sections[2]  # ceiling 2.46 at n = 1000; steps of .5


def test_an_unfinished_run_is_said(tmp_path: Path) -> None:
    text = report(
        folder(tmp_path / "a", [0.5] * 40, epochs=1, manifest={"model": {"epoch": 1}}),
        folder(tmp_path / "b", [0.5] * 500, manifest={"data": {"name": "mnist"}}),
        folder(tmp_path / "none", epochs=0),
    ).markdown
    assert "| 1 of 2 |" in text
    assert "- **a**: unfinished training: 1 of 2 epochs.\n" in text
    assert "- **a**: certified after epoch 1 of 2.\n" in text
    assert "- **a**: certified 40 of the 500 images of skip20.\n" in text
    assert "- **none**: unfinished training: 0 of 2 epochs.\n" in text
    assert "| 0 of 2 | – | – |" in text
    assert "**b**" not in text


def test_training_and_certification_that_do_not_fit_are_said(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", manifest={"data": {"name": "fashion-mnist"}})
    (path / "config.toml").write_text('dataset = "mnist"\nsigma = 0.25\n')
    text = report(path).markdown
    assert "## fashion-mnist, sigma 0.5\n" in text
    assert "- **a**: trained at sigma 0.25, certified at 0.5.\n" in text
    assert "- **a**: trained on mnist, certified on fashion-mnist.\n" in text


def test_missing_and_unknown_keys_are_no_error(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", manifest={"protocol": {}, "model": {}, "data": {}, "noise": {"drawn": "old"}})
    (path / "config.toml").write_text('news = "yes"\n[section]\nx = 1\n')
    (path / "environment.json").write_text("{}")
    (path / "train.csv").write_text("epoch\n1\n")
    text = report(path).markdown
    assert "## unknown, sigma 0.5\n" in text
    assert "| a | – | – | – | – | – | 1 of – | – | – |" in text


def test_every_run_is_compared_with_the_control(tmp_path: Path) -> None:
    text = report(
        folder(tmp_path / "plain", [0.5] * 500),
        folder(tmp_path / "max_up", [1.0] * 480 + [0.0] * 20),
        folder(tmp_path / "few", [1.0] * 40),
        folder(tmp_path / "alone", sigma=1.0),
        controls=["plain"],
    ).markdown
    assert text.count("### Against plain\n") == 1
    # 20 images only by the control at 0, .25 and .5: centre -20 / 502, half 1.96 sqrt(21 - 20^2 / 502) / 502 = .01755.
    (line,) = [line for line in text.splitlines() if line.startswith("| max_up | +0.4600 [")]
    assert line.count("-4.0 [-5.8, -2.2]<br>p ≤ 0.001") == 3
    assert line.count("+96.0 [+9") == 2
    assert "- max_up has the higher ACR, +0.4600 against plain (95 % interval [+0.4" in text
    assert "the certified accuracy of max_up is higher at r = 0.75, 1.00 and lower at r = 0.00, 0.25, 0.50.\n" in text
    assert "- few was not compared: the tables are about different images (0 are in the first alone, 460" in text
    assert text.count("No control is among these runs, so none is compared.") == 1


def test_what_only_the_manifests_tell_apart_is_not_compared(tmp_path: Path) -> None:
    sequential = {"procedure": "sequential", "n0": 100, "n": 4000, "alpha": 0.001}
    text = report(
        folder(tmp_path / "a"),
        folder(tmp_path / "cap", manifest={"sampling": sequential}),
        folder(tmp_path / "data", manifest={"data": {"name": "mnist", "fingerprint": "f1"}}),
        controls=["a"],
    ).markdown
    assert (
        "- cap was not compared: the manifests have different n, 4000 and 1000; certify both with the same --n.\n"
        in text
    )
    assert "- data was not compared: the manifests have different fingerprint, f1 and None; certify" in text


def test_a_control_is_named_by_its_folder_in_each_section(tmp_path: Path) -> None:
    folders = [folder(tmp_path / data / run, dataset=data) for data in ("mnist", "cifar10") for run in ("g", "x")]
    text = report(*folders, controls=["g"]).markdown
    assert "### Against mnist/g\n" in text
    assert "### Against cifar10/g\n" in text
    assert "### Against cifar10/g\n" not in report(*folders, controls=["mnist/g"]).markdown
    with pytest.raises(ValueError, match="--control h is none of the runs; name one of mnist/g, mnist/x"):
        report(*folders, controls=["h"])


def test_published_rows_stand_beside_and_gaussian_is_judged_on_the_same_images(tmp_path: Path) -> None:
    rows = [published(subset="full", images=10_000, acr=0.9), published(), published(sigma=0.25, acr=0.1)]
    text = report(folder(tmp_path / "a"), folder(tmp_path / "b", objective="maxup"), rows=rows).markdown
    lines = [line for line in text.splitlines() if line.startswith("| Gaussian |")]
    assert lines == [
        r"| Gaussian | skip20 (500) | 5 | 1000 | 0.001 | 0.4400 | 75.00 | – | 90.00 | – | – | a_b/c\|d |",
        r"| Gaussian | full (10,000) | 5 | 1000 | 0.001 | 0.9000 | 75.00 | – | 90.00 | – | – | a_b/c\|d |",
    ]
    assert text.count("The published ACR of Gaussian training") == 1  # of a, on the same images alone
    assert "The published ACR of Gaussian training, 0.4400 on the same images, lies in the interval of a, [0.40" in text
    assert "; its certified accuracy lies in ours (Clopper-Pearson, 95 %) at 1 of 2 radii.\n" in text


def test_published_rows_of_other_images_or_n_are_no_equals(tmp_path: Path) -> None:
    whole = published(subset="full", images=10_000, acr=0.9, percent={})
    text = report(folder(tmp_path / "a"), rows=[whole]).markdown
    assert (
        "0.9000 on all 10,000 images, not ours, which may be harder or easier, lies outside the interval of a" in text
    )
    text = report(folder(tmp_path / "b"), rows=[published(n=100_000)]).markdown
    assert "- b cannot be held against the published Gaussian training: its n = 1000 and" in text
    assert "### Published" not in report(folder(tmp_path / "c", arch="resnet110"), rows=[whole]).markdown


def test_names_are_escaped(tmp_path: Path) -> None:
    text = report(folder(tmp_path / "a|*b*_<i>"), folder(tmp_path / "c"), controls=["c"]).markdown
    assert text.count("\n| a\\|\\*b\\*\\_\\<i\\> | ") == 3
    assert escaped("a_b _c_ [d]\n`e`") == r"a_b \_c\_ \[d\] \`e\`"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("radii.tsv", None, "a has no radii.tsv: certify its checkpoint with `certify run .*a/checkpoint.safetensors"),
        ("radii.manifest.json", None, "a has no radii.manifest.json: certify its checkpoint again"),
        ("config.toml", None, "a has no config.toml: train it with `python -m train`"),
        ("train.csv", None, "a has no train.csv: train it"),
        ("environment.json", None, "a has no environment.json: train it"),
        ("radii.tsv", HEADER, "radii.tsv: the table has no rows"),
        ("config.toml", "a b", "config.toml is not TOML .*; restore it or train again"),
        ("environment.json", "{", "environment.json is not JSON .*; restore it or train again"),
        ("environment.json", "[]", "environment.json is no JSON object; restore it or train again"),
        ("train.csv", "", "train.csv is damaged .*; restore it or train again"),
        ("train.csv", "loss\n1\n", "train.csv has no column epoch; restore it or train again"),
        ("radii.manifest.json", "{}", "radii.manifest.json is not a manifest"),
    ],
)
def test_an_incomplete_or_damaged_folder_is_refused(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = folder(tmp_path / "a")
    (path / name).unlink() if content is None else (path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_folders([path])
    with pytest.raises(ValueError, match="none is no folder; name run folders, such as runs/NAME"):
        load_folders([tmp_path / "none"])


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["analysis", "results", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_the_command_writes_the_report_and_its_figures_the_same_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(folder(tmp_path / name)) for name in ("a", "b")]
    out = tmp_path / "docs" / "results.md"
    assert call(monkeypatch, *folders, "--control", "a", "--control", "b", "--out", str(out)) == 0
    figure = tmp_path / "docs" / "results" / "mnist-0.50.png"
    assert capsys.readouterr().out == f"wrote {out} and {figure}\n"
    first = out.read_bytes(), figure.read_bytes()
    assert b"](results/mnist-0.50.png)" in first[0]
    assert b"### Against a\n" in first[0]
    assert b"### Against b\n" in first[0]
    assert str(tmp_path).encode() not in first[0]
    assert call(monkeypatch, *folders, "--control", "a", "--control", "b", "--out", str(out)) == 0
    assert (out.read_bytes(), figure.read_bytes()) == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{a}", "--out", "{tmp}/x.txt"], "--out must end in .md, got {tmp}/x.txt"),
        (["{a}", "--out", "{tmp}/x.md", "--control", "c"], "--control c is none of the runs; name one of a."),
        (["{a}", "{a}", "--out", "{tmp}/x.md"], "is given 2 times"),
        (
            ["{tmp}", "--out", "{tmp}/x.md"],
            "{tmp} has none of radii.tsv, test.json, perplexity.json; did you mean {tmp}/a?",
        ),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    path = folder(tmp_path / "a")
    assert call(monkeypatch, *(part.format(a=path, tmp=tmp_path) for part in arguments)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message.format(tmp=tmp_path) in said.err
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
