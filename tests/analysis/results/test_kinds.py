"""Results of runs without certificates: accuracy on test images, and perplexity."""

import hashlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from result_folders import evaluated, folder, language
from scipy import stats
from tiny_language import model, settings

from maxup_smoothing.analysis.__main__ import main
from maxup_smoothing.analysis.literature.claims import load_claims
from maxup_smoothing.analysis.results.document import build_report
from maxup_smoothing.analysis.runs.kinds import load_runs
from maxup_smoothing.train.language import checkpoint


def markdown(*folders: Path, controls: Sequence[str] = ()) -> str:
    return build_report(load_runs(folders), controls, [], "report", load_claims()).markdown


def line_of(text: str, start: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return line


def test_accuracy_stands_with_its_exact_interval_and_what_it_cost(tmp_path: Path) -> None:
    text = markdown(evaluated(tmp_path / "maxup", objective="maxup", m=4, test={"lower": 0.9, "confidence": 0.5}))
    line = line_of(text, "| maxup | maxup |")
    # Clopper and Pearson's limits, outwards; two epochs of MaxUp are 2 (4 + 1) and 2 passes.
    low, high = stats.binomtest(150, 200).proportion_ci(0.95)
    assert (math.floor(1000 * low), math.ceil(1000 * high)) == (684, 809)
    expected = "resnet20 | crop, flip | 4 | 7 | 200 | 75.0 | [68.4, 80.9] | 2 of 2 | 10 + 2 | 1,500 | 2.0 min |"
    assert line == f"| maxup | maxup | {expected}"
    assert "## cifar10, accuracy without noise\n" in text
    assert "- parameters: 272474\n" in text
    assert "Certified accuracy at r" not in text
    assert "Perplexity is" not in text


def test_accuracies_are_compared_image_by_image_and_corrected_for_their_number(tmp_path: Path) -> None:
    better = [True] * 150 + [True] * 12 + [False] * 38
    mixed = [False] * 5 + [True] * 145 + [True] * 6 + [False] * 44
    text = markdown(
        evaluated(tmp_path / "plain"),
        evaluated(tmp_path / "better", better, seconds=150),
        evaluated(tmp_path / "mixed", mixed, epochs=5),
        controls=["plain"],
    )
    # McNemar: 2 / 2^12, doubled by Holm; 5 against 6 of 11: p = 1.
    assert line_of(text, "| better | +6.0 |").endswith("| ≤ 0.001 | 12 : 0 | 2 : 2 | × 2.50 |")
    assert line_of(text, "| mixed | +0.5 |").endswith("| 1.000 | 6 : 5 | 5 : 2 | × 2.50 |")
    assert 2 * 2 / 2**12 <= 0.001
    # The same counts without the pairs would say less: two independent samples of 150 and 162 of 200.
    assert stats.fisher_exact(np.array([[150, 50], [162, 38]])).pvalue > 0.1


@pytest.mark.parametrize(("runs", "p"), [("b", "0.032"), ("bcd", "0.094")])
def test_holm_corrects_over_the_runs_of_a_control(tmp_path: Path, runs: str, p: str) -> None:
    # Six images alone against none: p = 2 / 2^6 = 0.03125; the smallest of three counts three times.
    six = [True] * 156 + [False] * 44
    text = markdown(evaluated(tmp_path / "a"), *(evaluated(tmp_path / run, six) for run in runs), controls=["a"])
    assert f"| {p} | 6 : 0 |" in line_of(text, "| b | +3.0 |")


def test_what_is_not_known_to_be_the_same_images_is_not_compared(tmp_path: Path) -> None:
    text = markdown(
        evaluated(tmp_path / "a"),
        evaluated(tmp_path / "old", predictions=False),
        evaluated(tmp_path / "other", test={"fingerprint": "g"}),
        controls=["a"],
    )
    assert r"- old was not compared: old has no predictions of single images; run \`python -m train.evaluate\`" in text
    assert "- other was not compared: the test images have different fingerprints; evaluate both" in text
    assert "| run | difference |" not in text


def test_an_unfinished_or_foreign_evaluation_is_said(tmp_path: Path) -> None:
    text = markdown(
        evaluated(tmp_path / "a", epochs=1, test={"epoch": 1, "checkpoint": "best.safetensors"}),
        evaluated(tmp_path / "b", dataset="cifar100"),
    )
    assert "- **a**: unfinished training: 1 of 2 epochs.\n" in text
    assert "- **a**: evaluated after epoch 1 of 2, from best.safetensors.\n" in text
    assert "- **b**: trained on cifar100, evaluated on cifar10.\n" in text


def test_perplexity_stands_with_its_conditions_rounded_up(tmp_path: Path) -> None:
    path = language(tmp_path / "maxup", m=4, sigma=0.3)
    network = model(settings(), 11)
    checkpoint.save(path / "best.safetensors", network, settings(), tuple("abcdefghijk"), 2)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    text = markdown(path)
    # e^4.5 = 90.0171..., e^4 = 54.5981...; 3 (4 + 1) and 3 passes.
    assert (
        line_of(text, "| maxup | 0.3 |") == "| maxup | 0.3 | 4 | max | 0 | 90.02 (4.5000) | 54.60 (4.0000) | 3 of 3 | 2"
        " | 15 + 3 | 5,000 | 0.5 min |"
    )
    assert "| run | 1 | 2 | 3 |\n| --- | ---: | ---: | ---: |\n| maxup | 199.0 | 198.0 | 197.0 |\n" in text
    assert f"- parameters: {parameters}\n" in text
    assert "There is no interval" in text


def test_long_trainings_show_a_dozen_epochs_with_the_last(tmp_path: Path) -> None:
    text = markdown(language(tmp_path / "long", epochs=40), language(tmp_path / "short", epochs=4))
    header = line_of(text, "| run | 4 |")
    assert header == "| run | 4 | 8 | 12 | 16 | 20 | 24 | 28 | 32 | 36 | 40 |"
    assert line_of(text, "| short | 196.0").count("–") == 9


def test_perplexities_are_set_against_a_control_without_an_interval(tmp_path: Path) -> None:
    runs = [language(tmp_path / "plain"), language(tmp_path / "noisy", test_nats=390.0, seconds=25, epochs=2)]
    text = markdown(*runs, controls=["plain"])
    # e^-0.1 = 0.9048
    assert "| noisy | +0.0000 (+0.0 %) | -0.1000 (-9.5 %) | 2 : 3 | × 1.67 |" in text


def test_claims_stand_beside_runs_of_the_same_data_with_what_differs(tmp_path: Path) -> None:
    text = markdown(
        evaluated(tmp_path / "a", epochs=2),
        evaluated(tmp_path / "b", [True] * 160 + [False] * 40, epochs=5, m=4),
        evaluated(tmp_path / "c", test={"dataset": "mnist"}),
        language(tmp_path / "l"),
    )
    source = "Gong, Ren, Ye and Liu (2020), arXiv:2002.09024"
    assert f"| MaxUp | accuracy | test | 97.18 | 75.00 to 80.00 | {source} |" in text
    assert f"| MaxUp | perplexity | test | 50.29 | 54.60 | {source} |" in text
    assert text.count("| MaxUp |") == 2
    assert "Here: network resnet20, parameters 272,474, epochs 2 or 5, m 1 or 4, copies made by crop, flip" in text
    assert "Here: network lstm (layers 2, embedding 200, hidden 100), parameters –, epochs 3, m 1" in text


def test_what_stands_beside_a_claim_is_rounded_as_in_the_table_of_the_runs(tmp_path: Path) -> None:
    # e^4.0001 = 54.6036, e^4.0102 = 55.1579: to the nearest, both would look better than above. 100/3 = 33.333.
    runs = [language(tmp_path / name, test_nats=nats) for name, nats in (("a", 400.01), ("b", 401.02))]
    text = markdown(
        *runs, evaluated(tmp_path / "c", [True, False, False]), evaluated(tmp_path / "d", [True, True, False])
    )
    assert "| MaxUp | perplexity | test | 50.29 | 54.61 to 55.16 |" in text
    for name, shown in (("a", "54.61 (4.0001)"), ("b", "55.16 (4.0102)")):
        assert f" | {shown} |" in line_of(text, f"| {name} | 0.0 |")
    assert "| MaxUp | accuracy | test | 97.18 | 33.33 to 66.66 |" in text


def test_the_claims_are_the_papers(tmp_path: Path) -> None:
    found = {(claim.data, claim.split): (claim.measure, claim.value) for claim in load_claims()}
    assert found["cifar10", "test"] == ("accuracy", 97.18)
    assert found["ptb", "test"] == ("perplexity", 50.29)
    assert [found["wikitext-2", split][1] for split in ("validation", "test")] == [41.29, 39.61]
    header = "data,method,measure,split,value,unknown,source\n"
    for line, message in (
        ("a,b,accuracy,test,101,u,s", "line 2: value must be positive and a possible accuracy, got 101.0"),
        ("a,b,speed,test,1,u,s", "line 2: measure must be one of accuracy, perplexity, got 'speed'"),
        ("a,b,accuracy", "line 2: "),
    ):
        (tmp_path / "c.csv").write_text(header + line)
        with pytest.raises(ValueError, match=message):
            load_claims(tmp_path / "c.csv")


def test_all_kinds_make_one_report_by_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = folder(tmp_path / "both", dataset="cifar10")
    other = evaluated(tmp_path / "x" / "plain")
    for name in ("test.json", "test_predictions.tsv"):
        (both / name).write_bytes((other / name).read_bytes())
    folders = [both, other, language(tmp_path / "y" / "plain")]
    out = tmp_path / "results.md"
    monkeypatch.setattr(
        sys, "argv", ["analysis", "results", *map(str, folders), "--control", "plain", "--out", str(out)]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, capsys.readouterr().err
    text = out.read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## cifar10, sigma 0.5", "## cifar10, accuracy without noise", "## ptb, language models"]
    assert text.index("Certified accuracy at r") < text.index("Accuracy without noise is") < text.index("Perplexity is")
    assert "### Accuracy against x/plain\n" in text
    assert line_of(text, "| both | +0.0 |")
    assert line_of(text, "| y/plain | 0.0 |")


def test_a_report_without_a_figure_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.md"
    monkeypatch.setattr(sys, "argv", ["analysis", "results", str(language(tmp_path / "a")), "--out", str(out)])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out == f"wrote {out}\n"
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("make", "name", "content", "message"),
    [
        (
            evaluated,
            "test.json",
            None,
            "a has no radii.tsv: certify .*; and no test.json, .*: measure its",
        ),
        (evaluated, "test.json", "{", "test.json is not JSON .*; restore it or measure its accuracy"),
        (evaluated, "test.json", '{"right": 3, "images": 2}', "test.json must tell how many of how many images"),
        (evaluated, "test_predictions.tsv", None, "a has no test_predictions.tsv: measure its accuracy"),
        (evaluated, "test_predictions.tsv", "idx\n", "is not the file that test.json was written with; measure"),
        (language, "perplexity.json", None, "a has no perplexity.json: finish its training, .* --resume"),
        (language, "perplexity.json", "[]", "perplexity.json is no JSON object"),
        (language, "perplexity.json", '{"test": 1}', "must tell the tokens and nats of the validation text; delete"),
        (language, "best.safetensors", "x", "best.safetensors is damaged"),
        (
            language,
            "train.csv",
            "epoch,validation_perplexity\n1,low\n",
            "validation_perplexity must be numbers",
        ),
    ],
)
def test_an_incomplete_or_damaged_folder_is_refused(
    tmp_path: Path, make: Any, name: str, content: str | None, message: str
) -> None:
    path = make(tmp_path / "a")
    (path / name).unlink() if content is None else (path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_runs([path])


def test_predictions_of_other_images_are_refused(tmp_path: Path) -> None:
    path = evaluated(tmp_path / "a", test={"right": 149})
    with pytest.raises(ValueError, match=r"test_predictions.tsv and test.json count different images; measure"):
        load_runs([path])
    text = (path / "test_predictions.tsv").read_text().replace("\n7\t", "\n8\t").encode()
    (path / "test_predictions.tsv").write_bytes(text)
    (path / "test.json").write_text(
        json.dumps({"right": 150, "images": 200, "predictions_sha256": hashlib.sha256(text).hexdigest()})
    )
    with pytest.raises(ValueError, match="idx must count the images from 0"):
        load_runs([path])
