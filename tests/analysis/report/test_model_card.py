"""The model card: metadata that YAML readers take, numbers that claim no more than the table, and hostile names."""

import re
from pathlib import Path
from typing import Any

import pytest
from analysis_call import call
from written_tables import write_run

from maxup_smoothing.analysis.report.model_card import MARK, build_card, yaml_text
from maxup_smoothing.analysis.report.subjects import load_subjects
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.radius_table import read


def parsed(text: str) -> Any:
    """The block YAML that a card uses: mappings and lists by indentation, quoted texts, numbers."""
    lines = [(len(line) - len(line.lstrip()), line.strip()) for line in text.splitlines()]

    def value(text: str) -> Any:
        if text.startswith('"'):
            assert text.isascii()
            return re.sub(r"\\U([0-9a-f]{8})", lambda found: chr(int(found[1], 16)), text[1:-1])
        return float(text) if "." in text else int(text)

    def block(indent: int) -> Any:
        found: Any = [] if lines[0][1].startswith("- ") else {}
        while lines and lines[0][0] == indent:
            if isinstance(found, list):
                content = lines[0][1][2:]
                if content.startswith('"'):
                    found.append(value(content))
                    lines.pop(0)
                else:
                    lines[0] = (indent + 2, content)
                    found.append(block(indent + 2))
            else:
                name, _, rest = lines.pop(0)[1].partition(":")
                found[name] = value(rest.strip()) if rest else block(lines[0][0])
        return found

    return block(0)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = write_run(tmp_path / "a" / "radii.tsv", [300, 700, 900, 990, 1000, 1000])
    manifest = {
        "classifier": {"weights_sha256": "ab" * 32},
        "data": {"name": "mnist", "split": "test", "fingerprint": "f"},
    }
    manifests.write(manifests.manifest_path(path), manifest)
    return path


def card(path: Path) -> tuple[dict[str, Any], str]:
    text = build_card(load_subjects([path])[0])
    _, head, body = text.split("---\n", 2)
    return parsed(head), body


def test_a_card_has_the_metadata_of_evaluation_results(table: Path) -> None:
    head, body = card(table)
    (index,) = head["model-index"]
    (result,) = index["results"]
    assert index["name"] == "a"
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"] == {"type": "mnist", "name": "mnist", "split": "test"}
    stored = read(table)
    for metric in result["metrics"][:-1]:
        assert {"type", "name", "value", "args"} <= metric.keys()
        share = ((stored["correct"] == 1) & (stored["radius"] >= metric["args"]["radius"])).mean()
        assert share - 1e-4 < metric["value"] <= share
        assert metric["args"]["interval_95_low"] <= share <= metric["args"]["interval_95_high"]
        assert (metric["args"]["n"], metric["args"]["alpha"], metric["args"]["sigma"]) == (1000, 0.001, 0.5)
    for said in ("ab" * 32, "What is not guaranteed", "certify verify", "No change of an image", MARK):
        assert said in body


def test_nothing_in_a_file_becomes_yaml_markdown_or_html(table: Path) -> None:
    hostile = '"\n- x: <script>`*|\u2028\U0001f600'
    manifest = {"data": {"name": f"/home/me/{hostile}", "split": hostile}, "model": {"arch": hostile}}
    manifests.write(manifests.manifest_path(table), manifest)
    head, body = card(table)
    dataset = head["model-index"][0]["results"][0]["dataset"]
    assert dataset["type"] == "custom"
    assert "/home" not in body + str(head)
    assert "<script>" not in re.sub("`[^`\n]*`", "", body)


def test_small_numbers_are_numbers_in_every_yaml() -> None:
    assert yaml_text({"a": 1e-05, "b": 2.5e-07, "c": 1}) == "a: 1.0e-05\nb: 2.5e-07\nc: 1\n"
    with pytest.raises(ValueError, match="finite"):
        yaml_text({"a": float("nan")})


def test_the_command_writes_page_and_card_and_spares_other_files(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, out = tmp_path / "p.html", tmp_path / "README.md"
    assert call(monkeypatch, "report", str(table), "--out", str(page), "--model-card", str(out)) == 0
    assert call(monkeypatch, "report", str(table), "--out", str(page), "--model-card", str(out)) == 0
    assert out.read_text().startswith("---\nlibrary_name")
    page.unlink()
    out.write_text("# Mine\n")
    other = write_run(tmp_path / "b" / "radii.tsv", [900, 1000])
    for arguments, message in (
        ([str(table), "--model-card", str(out)], "is no card of this command"),
        ([str(table), "--model-card", str(tmp_path / "c.txt")], "must end in .md"),
        ([str(table), str(other), "--model-card", str(tmp_path / "c.md")], "about one run, got 2"),
    ):
        assert call(monkeypatch, "report", *arguments, "--out", str(page)) == 2
        assert message in capsys.readouterr().err
    assert not page.exists()
    assert out.read_text() == "# Mine\n"


def test_tables_and_curves_state_norms_and_first_classes(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "table", str(table), "--norm", "linf", "--dimension", "100", "--radii", "0,0.05") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split(",")[-3:] == ["norm", "0.00", "0.05"]
    share = ((read(table)["correct"] == 1) & (read(table)["radius"] >= 0.5)).mean()
    assert said[1].split(",")[-3] == "linf"
    assert float(said[1].split(",")[-1]) == pytest.approx(share, abs=1e-6)
    assert call(monkeypatch, "table", str(table), "--top-k", "2", "--radii", "0", "--format", "latex") == 0
    assert "top-k" in capsys.readouterr().out
    drawn = ["curve", str(table), "--out", str(tmp_path / "c.svg")]
    assert call(monkeypatch, *drawn, "--norm", "l1", "--top-k", "2") == 0
    capsys.readouterr()
    assert call(monkeypatch, *drawn, "--norm", "linf") == 2
    assert "pass --dimension" in capsys.readouterr().err
    assert call(monkeypatch, *drawn, "--norm", "l1", "--published", "mnist") == 2
    assert "leave out --norm and --top-k" in capsys.readouterr().err
