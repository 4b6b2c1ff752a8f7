"""Which images are certified: classes that are passed over, and images that were trained on."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from maxup_smoothing.certify.commands import app as cli
from maxup_smoothing.certify.preflight.sample import Sample, class_findings, trained_findings
from maxup_smoothing.certify.tables.summary import certified_accuracy, render
from maxup_smoothing.data import seen, subset
from maxup_smoothing.train import evaluate
from maxup_smoothing.train.__main__ import app

TOML = """
dataset = "images.npz"
arch = "lenet"
objective = "gaussian"
sigma = 0.25
epochs = 1
batch_size = 20
lr = 0.01
device = "cpu"
"""
CYCLES = np.tile(np.arange(10), 100)


def said(labels: NDArray[np.int64], protocol: str, classes: int = 10) -> list[str]:
    indices = subset.protocol(protocol).indices(len(labels))
    names = tuple(f"{k}" if k else "cat" for k in range(classes))
    return [finding.line for finding in class_findings(Sample(labels_N=labels, indices_I=indices, classes=names))]


def test_a_protocol_that_meets_one_class_is_warned_of() -> None:
    (line,) = said(CYCLES, "skip20")
    assert line.startswith("classes: all 50 images are of class 0 (cat), one of 10: certificates hold, but they say")
    (line,) = said(np.sort(CYCLES), "first50")
    assert "all 50 images are of class 0 (cat)" in line
    # What the message advises does it.
    assert "certify all images, or every N-th one with another N" in line
    assert said(CYCLES, "full") == said(CYCLES, "skip19") == said(np.sort(CYCLES), "skip20") == []


def test_a_protocol_far_from_the_shares_of_the_classes_is_warned_of() -> None:
    (line,) = said(CYCLES, "skip4")
    assert line.startswith("classes: 50 of 250 images are of class 0 (cat), of which the split has 100 of 1000")


@pytest.mark.parametrize("name", ["full", "skip2", "skip20", "skip100", "first500", "first30"])
def test_a_usual_order_is_not_warned_of(name: str) -> None:
    for seed in range(50):
        assert said(np.random.default_rng(seed).integers(0, 10, 2000), name) == []
        assert said((np.random.default_rng(seed).random(2000) < 0.5).astype(np.int64), name) == []


@pytest.mark.parametrize(("labels", "name"), [(np.zeros(40, np.int64), "full"), (CYCLES, "first1")])
def test_one_class_in_all_or_one_image_is_not_warned_of(labels: NDArray[np.int64], name: str) -> None:
    assert said(labels, name) == []


def test_images_that_were_trained_on_are_counted_and_the_first_is_named() -> None:
    sample = Sample(labels_N=CYCLES, indices_I=np.array([0, 20, 40]), classes=("a",) * 10)
    assert list(trained_findings(sample)) == []
    trained = Sample(**{**vars(sample), "trained_I": np.array([False, True, True])})
    (finding,) = trained_findings(trained)
    assert finding.seen == "the model was trained on 2 of these 3 images, the first of them idx 20"


def rows(labels: list[int]) -> pd.DataFrame:
    right = pd.DataFrame({"idx": range(len(labels)), "label": labels, "predict": labels, "radius": 0.5, "correct": 1})
    return right.assign(time=1.0, n0=100, n=1000, alpha=0.001, sigma=0.5)


def test_a_table_of_one_class_states_nothing_about_a_population() -> None:
    one, two = rows([3] * 10), rows([3] * 9 + [4])
    assert certified_accuracy(one, [0.0, 0.5])["population"].isna().all()
    assert certified_accuracy(two, [0.5])["population"][0] == pytest.approx((0.05 ** (1 / 10) - 0.001) / 0.999)
    text = render(one, [0.5])
    assert text.splitlines()[1].endswith(" none")
    assert "population      no statement: all rows are of one class" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "truly robust share" in render(two, [0.5])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text(TOML)
    return tmp_path


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28)).astype(np.uint8)


def trained(*changes: str, out: str = "run") -> str:
    options = [part for change in changes for part in ("--set", change)]
    result = CliRunner().invoke(app, ["c.toml", *options, "--out", out], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stderr


def certified(*arguments: str, out: str = "radii.tsv") -> Any:
    command = ["run", "run", "--n", "50", "--device", "cpu", "--out", out, *arguments]
    result = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert result.exit_code == 0
    return result


def known(folder: Path) -> NDArray[np.uint64]:
    found = seen.read(folder)
    assert found is not None
    return found


def test_test_images_that_are_trained_on_are_warned_of_in_training_test_and_certification(here: Path) -> None:
    x, y = pictures(40), np.arange(40) % 4
    np.savez(
        "images.npz", x_train=x, y_train=y, x_test=np.concatenate([pictures(6, 1), x[3:7]]), y_test=np.arange(10) % 4
    )
    assert "warning: images.npz: 4 of 10 test images are trained on, the first is number 6;" in trained()
    assert "the model was trained on 4 of these 10 images, the first of them idx 6" in certified().stderr
    assert "the model was trained on" not in certified("--limit", "6", out="others.tsv").stderr
    tested = CliRunner().invoke(evaluate.app, ["run"], catch_exceptions=False)
    assert "warning: 4 of the 10 test images of images.npz are trained on" in tested.stderr
    # Other files may hold the same images, and those of training may be gone.
    np.savez("other.npz", images=x[10:20], labels=y[10:20])
    Path("images.npz").unlink()
    assert (
        "trained on 10 of these 10 images, the first of them idx 0"
        in certified("--data", "other.npz", out="o.tsv").stderr
    )


def test_images_that_were_held_out_are_no_training_images_and_those_of_init_are(here: Path) -> None:
    x, y = pictures(40), np.arange(40) % 4
    np.savez("images.npz", images=x, labels=y)
    trained("holdout=8")
    first = known(Path("run"))
    assert np.isin(seen.hashes(x[:, None]), first).sum() == 32
    assert "the model was trained on 32 of these 40 images" in certified().stderr
    np.savez("more.npz", images=pictures(40, 2), labels=y)
    trained("dataset=more.npz", 'init="run"', out="tuned")
    both = known(Path("tuned"))
    assert len(both) == 72
    assert np.isin(first, both).all()


def test_a_cut_off_file_of_hashes_is_named_and_an_absent_one_is_no_fault(here: Path) -> None:
    np.savez("images.npz", images=pictures(40), labels=np.arange(40) % 4)
    trained()
    path = Path("run") / seen.FILE
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=re.escape(f"{path} is damaged: it is cut off; delete it")):
        certified()
    path.unlink()
    assert "the model may have been trained on these images: images.npz, file" in certified().stderr


def test_one_class_of_a_protocol_is_warned_of_and_recorded(here: Path) -> None:
    np.savez("images.npz", x_train=pictures(40), y_train=np.arange(40) % 10, x_test=pictures(100, 1),
             y_test=np.arange(100) % 10)  # fmt: skip
    trained()
    result = certified("--protocol", "skip10")
    assert "warning: classes: all 10 images are of class 0, one of 10" in result.stderr
    assert "population      no statement: all rows are of one class" in result.stdout
    assert "all 10 images are of class 0" in Path("radii.manifest.json").read_text()
