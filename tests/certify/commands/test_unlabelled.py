"""Images without labels: radii and classes, and no accuracy."""

from pathlib import Path

import certify_command
import numpy as np
import pytest
from certify_command import certify
from PIL import Image
from typer.testing import CliRunner

from maxup_smoothing.analysis.__main__ import app as analysis
from maxup_smoothing.certify.commands.app import app
from maxup_smoothing.certify.tables.prediction_table import parse_prediction
from maxup_smoothing.certify.tables.radius_table import parse_row, read
from maxup_smoothing.certify.tables.summary import certified_accuracy, certified_share, render, summarize
from maxup_smoothing.data import registry

_here = certify_command.here

IMAGES = registry.load("fashion-sample", "test").images[:4, 0]
SETTINGS = ["--sigma", "0.5", "--seed", "1", "--batch-size", "64", "--no-check"]


@pytest.fixture(autouse=True)
def unlabelled() -> None:
    np.savez("alone.npz", images=IMAGES)
    np.savez("minus_one.npz", images=IMAGES, labels=np.full(4, -1))
    Path("flat").mkdir()
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(f"flat/{number}.png")
    Image.fromarray(IMAGES[0]).save("photo.PNG")


def table(data: str = "alone.npz") -> Path:
    certify("run", "mymodel:factory", "--data", data, *SETTINGS, "--n", "200", "--out", "radii.tsv")
    return Path("radii.tsv")


@pytest.mark.parametrize("data", ["alone.npz", "minus_one.npz", "flat", "photo.PNG"])
def test_predict_takes_them(data: str) -> None:
    said = certify("predict", "mymodel:factory", "--data", data, *SETTINGS, "--n", "200", "--out", "p.tsv")
    rows = [parse_prediction(line) for line in Path("p.tsv").read_text().splitlines()[1:]]
    assert len(rows) == (1 if data == "photo.PNG" else 4)
    assert {(row.label, row.correct) for row in rows} == {(-1, False)}
    assert said.splitlines()[0] == f"predicted {len(rows)}/{len(rows)}, abstained 0/{len(rows)}; there are no labels"


@pytest.mark.parametrize("data", ["alone.npz", "minus_one.npz", "flat", "photo.PNG"])
def test_run_gives_their_radii_and_no_accuracy(data: str) -> None:
    shown = certify("run", "mymodel:factory", "--data", data, *SETTINGS, "--n", "200", "--out", "radii.tsv")
    rows = read("radii.tsv")
    assert set(rows["label"]) == {-1}
    assert set(rows["correct"]) == {0}
    assert (rows["radius"] > 0).all()
    assert certify("show", "radii.tsv") == shown
    for word in ("accuracy", "ACR", "wrong"):
        assert word not in shown
    assert f"{len(rows)}/{len(rows)}    1.0000" in shown
    assert "mean radius" in shown
    assert "EXACT" in certify("verify", "radii.tsv", "--rows", "all")


def test_the_votes_are_those_of_the_images_with_labels() -> None:
    alone = read(table())
    certify("run", "mymodel:factory", "--data", "images.npz", *SETTINGS, "--n", "200", "--limit", "4", "--out", "b.tsv")
    same = ["predict", "radius", "counts", "looks"]
    assert alone[same].equals(read("b.tsv")[same])


def test_the_share_counts_certified_images_and_the_mean_radius_abstentions_as_0() -> None:
    rows = read(table())
    abstained = {"predict": -1, "radius": 0.0, "status": "abstain"}
    rows = rows.assign(**{name: [value, *rows[name][1:]] for name, value in abstained.items()})
    assert certified_share(rows, [0.0])["certified"].tolist() == [3]
    mean = rows["radius"].sum() / 4
    assert f"mean radius     {int(mean * 1e4) / 1e4:.4f}" in render(rows)
    assert "abstained       1/4" in render(rows)


def test_an_abstention_without_a_label_is_not_correct() -> None:
    """Both are -1."""
    line = table().read_text().splitlines()[1].split("\t")
    looks = "200:100:100:0.001"
    changed = [
        *line[:2],
        "-1",
        "0.0",
        "0",
        *line[5:8],
        "100",
        "0.0",
        *line[10:12],
        "abstain",
        "0:100,1:100",
        "0",
        "1.0",
    ]
    assert parse_row("\t".join([*changed, "fixed", "clopper-pearson", looks])).label == -1
    changed[4] = "1"
    with pytest.raises(ValueError, match="correct is 1, but predict is -1 and label -1"):
        parse_row("\t".join([*changed, "fixed", "clopper-pearson", looks]))


def test_finished_tables_are_computed_again_merged_and_audited_without_labels() -> None:
    table()
    recomputed = certify("recompute", "radii.tsv", "--alpha", "0.01", "--out", "new.tsv")
    assert "mean radius" in recomputed
    assert set(read("new.tsv")["correct"]) == {0}
    for shard in ("0/2", "1/2"):
        certify("run", "mymodel:factory", "--data", "alone.npz", *SETTINGS, "--n", "200", "--shard", shard,
                "--out", f"{shard[0]}.tsv")  # fmt: skip
    assert "mean radius" in certify("merge", "0.tsv", "1.tsv", "--out", "both.tsv")
    assert certify("audit", "radii.tsv", "new.tsv", "both.tsv").count("PASS") == 3
    assert "mean radius" in certify("show", "radii.tsv", "--simultaneous")
    carried = certify("transfer", "radii.tsv", "--to-batch-size", "8", "--pairs", "300", "--out", "t.tsv")
    assert "mean radius" in carried
    assert set(read("t.tsv")["correct"]) == {0}


@pytest.mark.parametrize("command", ["table", "curve", "groups", "votes", "samples"])
def test_what_takes_labels_refuses_the_table_in_one_line(command: str) -> None:
    table()
    more = [] if command == "table" else ["--out", "figure.png"]
    result = CliRunner().invoke(analysis, [command, "radii.tsv", *more])
    assert isinstance(result.exception, ValueError)
    assert str(result.exception).endswith("no labels, so no accuracy is known; `certify show` prints its radii.")
    assert not Path("figure.png").exists()
    for call in (summarize, lambda rows: certified_accuracy(rows, [0.0])):
        with pytest.raises(ValueError, match="have no labels, so no accuracy is known"):
            call(read("radii.tsv"))


def test_an_attack_refuses_them() -> None:
    table()
    with pytest.raises(ValueError, match="have no labels, so an attack cannot be told from a mistake"):
        certify("attack", "mymodel:factory", "radii.tsv")
    assert not Path("attacks.tsv").exists()


def test_a_table_with_some_labels_only_has_no_summary() -> None:
    rows = read(table())
    mixed = rows.assign(label=[0, -1, -1, -1], correct=0)
    with pytest.raises(ValueError, match=r"3 of 4 rows have no label \(-1\)"):
        render(mixed)


def test_a_check_says_what_is_answered_and_not_what_is_right() -> None:
    said = certify("check", "mymodel:factory", "--data", "alone.npz", "--sigma", "0.5", "--batch-size", "64")
    assert "accuracy: unknown without labels; class " in said


def test_notes_on_the_files_are_printed_on_stderr() -> None:
    Path("flat/notes.txt").write_text("no image")
    arguments = ["predict", "mymodel:factory", "--data", "flat", *SETTINGS, "--n", "200", "--out", "p.tsv"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "note: flat: files passed over: 1 (flat 1 with the ending .txt).\n" in result.stderr


def test_a_missing_image_is_said() -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png: no such file; give the path of an image"):
        certify("predict", "mymodel:factory", "--data", "gone.png", *SETTINGS, "--out", "p.tsv")


def test_the_split_of_validation_images_is_recorded_and_opened_again() -> None:
    np.savez("halves.npz", x_train=IMAGES, y_train=np.array([0, 1, 2, 9]), x_val=IMAGES[::-1], y_val=np.arange(4))
    certify("run", "mymodel:factory", "--data", "halves.npz", *SETTINGS, "--n", "200", "--out", "v.tsv")
    assert read("v.tsv")["label"].tolist() == [0, 1, 2, 3]
    assert '"split": "val"' in Path("v.manifest.json").read_text()
    assert "EXACT" in certify("verify", "v.tsv", "--rows", "all")
