import base64
import json
import re
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from report_pages import HEADER, LENET, Page, page_of, sample_run, write_run

from maxup_smoothing.analysis.commands.reports import report
from maxup_smoothing.analysis.report import images
from maxup_smoothing.analysis.report.numbers import accuracy_table, false_text, interval_text, percent
from maxup_smoothing.analysis.report.page import build_page
from maxup_smoothing.analysis.report.subjects import load_subjects
from maxup_smoothing.analysis.report.text import isolated, plain_name, printable
from maxup_smoothing.certify.statistics.rounding import floor_text
from maxup_smoothing.certify.tables.population import false_certificates
from maxup_smoothing.certify.tables.radius_table import read
from maxup_smoothing.certify.tables.summary import certified_accuracy, summarize
from maxup_smoothing.data import download, registry
from maxup_smoothing.data.runtime import console

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img onerror=alert(1)>',
    "{{7*7}}",
    "x" * 150,
    "\u05d0\u05d1 \u202egnp",
)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No download can be tried without an error, and no data of this machine's user is found."""

    def refuse(*args: object) -> None:
        raise AssertionError(f"a download was tried: {args}")

    monkeypatch.setattr(download, "fetch", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-cache"))
    monkeypatch.delenv("DATA_ROOT", raising=False)


def require_self_contained(page: Page) -> None:
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not page.all("script", "iframe", "object", "embed", "form", "base")
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("href", "src"):
            if (target := attributes.get(name)) is not None:
                assert re.match(r"#[a-z]+$|data:,$|data:image/(png|svg\+xml);base64,[A-Za-z0-9+/=]+$", target)
    for image in page.all("img"):
        assert image["alt"]
        head, _, content = (image["src"] or "").partition(",")
        if "svg" in head:
            svg = ET.fromstring(base64.b64decode(content))
            assert not [one for one in svg.iter() if one.tag.rpartition("}")[2] in ("script", "a", "foreignObject")]


def test_a_page_of_three_runs_says_what_was_certified_how_sure_it_is_and_which_is_better() -> None:
    paths = [LENET / "fashion_mnist" / name / "radii.tsv" for name in ("gaussian", "maxup-4", "mean-of-4")]
    html = build_page(load_subjects(paths), control="gaussian")
    assert len(html) < 1_500_000
    page = Page(html)
    require_self_contained(page)
    for path in paths:
        table = read(path)
        row = certified_accuracy(table, [1.0]).iloc[0]
        assert f"{percent(row['certified'], 500)} %" in page.text
        assert f"95 % interval {interval_text(row['low'], row['high'], 500)} %" in page.text
        assert floor_text(summarize(table).acr, 4) in page.text
        false = false_certificates(table)
        assert false is not None
        parts = f"({summarize(table).correct} right, {summarize(table).wrong} wrong)"
        assert f"at most {false.at_most} of {false.certificates} certificates {parts}, with" in page.text
    for told in (
        "fashion-mnist, test", "500 (skip20: every 20th image)", "lenet, epoch 90", "100,000",
        "Certified robustness of 3 runs: fashion-mnist, lenet, sigma 0.5",
        "certify run runs/lenet/fashion_mnist/maxup-4", "found no error: every radius is possible",
        "maxup-4 has the higher ACR, +0.1166 against gaussian", "No difference in ACR is shown between mean-of-4",
        "changes the classifier's answer", "alpha is 0.001.", "Nothing is downloaded.",
        "500 of 10,000 images were certified", "the folder that holds fashion_mnist.npz, or t10k",
    ):  # fmt: skip
        assert told in page.text
    assert [attributes["lang"] for attributes in page.all("html")] == ["en"]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))


def test_the_table_of_a_run_is_that_of_its_summary() -> None:
    path = LENET / "fashion_mnist/maxup-4/radii.tsv"
    (subject,) = load_subjects([path])
    found = accuracy_table(subject, [0.0, 1.0])
    wanted = certified_accuracy(read(path), [0.0, 1.0]).iloc[1]
    assert wanted["certified"] == 327
    assert found.rows[1][:3] == ("1.00", "327 of 500", "65.4")
    bound = found.rows[1][4]
    assert isinstance(bound, str)
    assert wanted["population"] - 0.001 < float(bound) / 100 <= wanted["population"]


def test_shares_are_rounded_down_and_their_intervals_outwards() -> None:
    assert percent(2, 3) == "66.6"
    assert percent(1, 1001) == "0.09"
    assert interval_text(0.12399, 0.45601, 10) == "12.3 to 45.7"


def test_names_and_values_out_of_files_are_text_and_nothing_else(tmp_path: Path) -> None:
    paths = []
    for number, name in enumerate(HOSTILE):
        values = {"name": name, "split": name, "fingerprint": name}
        notes = {"command": name, "preflight": [name, {"why": name}], name: {name: [name]}}
        manifest = {"data": values, "notes": notes, "model": {"arch": name, "epoch": {name: 1}}, "warnings": name}
        folder = tmp_path / str(number) / name.replace("/", "\u2215")
        paths.append(write_run(folder, "0\t1\t1\t0.5\t1\t3\n1\t0\t0\t0.7\t1\t3\n", manifest=manifest))
        (folder / "config.toml").write_text(f"objective = {json.dumps(name)}\nepochs = 'many'\n")
    html = build_page(load_subjects(paths))
    page = Page(html)
    require_self_contained(page)
    assert "<script" not in html.lower()
    assert "<img onerror" not in html
    assert "49" not in page.text.split("\u202e")[0]
    assert "{{7*7}}" in page.text
    assert "\u202e" not in html
    assert "before the run it was warned: why: {{7*7}}" in page.text


def test_a_name_that_no_file_may_hold_is_made_fit_for_one() -> None:
    assert printable("a\x00b\udcffc\u202ed\ne") == "a\ufffdb\ufffdc\ufffdd\ne"
    assert plain_name("a\u2069\nb") == "a\ufffd\ufffdb"
    assert isolated("plain") == "plain"
    assert isolated("\u05d0b") == "\u2068\u05d0b\u2069"


def test_a_log_of_six_columns_alone_makes_a_page_that_says_what_it_does_not_tell(tmp_path: Path) -> None:
    path = tmp_path / "theirs.tsv"
    path.write_text(HEADER + "0\t1\t1\t0.5\t1\t3\n10\t1\t0\t0.25\t0\t3\n20\t1\t-1\t0.0\t0\t3\n")
    (subject,) = load_subjects([path])
    assert false_text(subject) == "unknown: the file does not tell alpha"
    page = page_of(path)
    require_self_contained(page)
    for told in (
        "Certified robustness of theirs", "there is no manifest beside the table", "not recorded",
        "No pictures, so the images are listed. The table has no manifest that tells its data.", "33.3 %", "1 (33.3 %)",
    ):  # fmt: skip
        assert told in page.text
    assert not any(attributes.get("id") == "comparison" for _, attributes in page.elements)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = [sample_run(tmp_path / "a"), sample_run(tmp_path / "b", radius=0.4)]
    assert build_page(load_subjects(paths)) == build_page(load_subjects(paths))


def test_pictures_show_what_the_surest_mistakes_were_taken_for(tmp_path: Path) -> None:
    page = page_of(sample_run(tmp_path / "a"))
    classes = registry.load("fashion-sample", "test").classes
    label = int(registry.load("fashion-sample", "test").labels[20])
    assert f"true: {classes[label]} answered: {classes[(label + 1) % 10]}, radius 0.500 idx 20" in page.text
    small = [image for image in page.all("img") if (image["src"] or "").startswith("data:image/png")]
    assert len(small) == 6 + 1 + 17
    assert {(image["width"], image["height"]) for image in small} == {("28", "28")}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fingerprint": "0" * 64}, "has another fingerprint"),
        ({"fingerprint": None}, "tells no fingerprint"),
        ({"name": "mnist"}, "Nothing is downloaded."),
        ({"name": "../../etc/own.npz"}, "Nothing is downloaded."),
        ({"name": ".."}, "Nothing is downloaded."),
        ({"split": "none"}, "could not be read"),
    ],
)
def test_pictures_are_left_out_with_a_reason(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    page = page_of(sample_run(tmp_path / "a", change), data_root=tmp_path)
    assert "No pictures" in page.text
    assert reason in page.text


def test_a_path_in_a_manifest_is_looked_up_by_its_last_part_under_the_data_root_alone(tmp_path: Path) -> None:
    sample = registry.load("fashion-sample", "test")
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    path = sample_run(tmp_path / "a", {"name": str(tmp_path / "outside" / "own.npz"), "split": "file"})
    np.savez(tmp_path / "outside" / "own.npz", images=sample.images[:, 0], labels=sample.labels)
    assert "No pictures" in page_of(path, data_root=root).text
    np.savez(root / "own.npz", images=sample.images[:, 0], labels=sample.labels)
    assert "No pictures" not in page_of(path, data_root=root).text


def test_large_pictures_are_made_smaller() -> None:
    picture = images._picture(np.zeros((3, 224, 112), np.uint8))
    assert picture.size == (48, 96)


def test_the_command_writes_the_page_whole_and_refuses_to_overwrite_a_radius_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()
    app.command()(report)
    path = sample_run(tmp_path / "a")

    def call(*arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", ["report", *arguments])
        with pytest.raises(SystemExit) as ended:
            console.run(app)
        return ended.value.code

    out = tmp_path / "page.html"
    assert call(str(path.parent), "--out", str(out)) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    kept = tmp_path / "table.html"
    kept.write_bytes(path.read_bytes())
    for arguments, message in (
        (("--out", str(kept)), "is a radius table"),
        (("--out", str(tmp_path / "page.txt")), "must end in .html"),
        (("--out", str(out), "--control", "none"), "is none of the runs; name one of a"),
        (("--out", str(out), "--data-root", str(tmp_path / "none")), "no such folder"),
    ):
        assert call(str(path), *arguments) == 2
        assert message in capsys.readouterr().err
    assert kept.read_bytes() == path.read_bytes()
