"""``certify export``: the certified network as a file of another runtime, with the radii that hold there."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from certify_command import certify, here
from typer.testing import CliRunner

from maxup_smoothing.certify.commands.app import app
from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.models.adapters import METADATA
from maxup_smoothing.certify.transfer import export
from maxup_smoothing.certify.transfer.table import TransferredTable
from maxup_smoothing.data import registry

__all__ = ["here"]
RUN = [
    "run",
    "run",
    "--limit",
    "4",
    "--n",
    "400",
    "--seed",
    "1",
    "--batch-size",
    "64",
    "--compile",
    "off",
    "--no-check",
]
IMAGES = np.random.default_rng(0).random((5, 1, 28, 28), dtype=np.float32)


def exported(kind: str, *more: str) -> str:
    if kind == "onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name, reason=f"export to ONNX needs {name}; install 'maxup-smoothing[onnx]'")
    return certify("export", "run", "--to", f"out/model.{kind}", "--pairs", "2000", *more)


def refused(*arguments: str, said: str) -> None:
    with pytest.raises((ValueError, OSError), match=said):
        CliRunner().invoke(app, ["export", *arguments], catch_exceptions=False)


@pytest.mark.parametrize("kind", ["onnx", "pt2", "pt"])
def test_an_export_has_the_certified_logits_at_any_batch_size_and_a_table(kind: str) -> None:
    certify(*RUN)
    said = exported(kind)
    assert "differing       0 of" in said
    assert sorted(path.name for path in Path("out").iterdir()) == [
        f"model.{kind}",
        f"model.{kind}.radii.manifest.json",
        f"model.{kind}.radii.tsv",
    ]
    model = loading.load("run", (1, 28, 28), 10).model
    exported_one = loading.load(f"out/model.{kind}", (1, 28, 28), 10)
    assert exported_one.classes == registry.load("fashion-sample", "test").classes
    again = exported_one.model
    for rows in (1, 2, 5):
        x_BCHW = torch.from_numpy(IMAGES[:rows])
        with torch.no_grad():
            torch.testing.assert_close(again(x_BCHW), model(x_BCHW), rtol=1e-3, atol=1e-3)
    old = Path("run/radii.tsv").read_text().splitlines()[1:]
    lines = Path(f"out/model.{kind}.radii.tsv").read_text().splitlines()[1:]
    rows_ = [TransferredTable.parse(line) for line in lines]
    assert len(rows_) == len(old) == 4
    for row, line in zip(rows_, old, strict=True):
        assert row.radius <= float(line.split("\t")[3])
    assert any(row.radius > 0 for row in rows_)
    manifest = json.loads(Path(f"out/model.{kind}.radii.manifest.json").read_text())
    assert manifest["notes"]["model"] == f"out/model.{kind}"
    assert manifest["transferred"]["pairs"] == 2000
    certify("show", f"out/model.{kind}.radii.tsv")


def test_the_metadata_name_the_classes() -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    certify(*RUN)
    exported("onnx")
    classes = list(np.load("images.npz")["classes"])
    told = {entry.key: entry.value for entry in onnx.load("out/model.onnx").metadata_props}
    assert json.loads(told["classes"]) == classes
    assert json.loads(told[METADATA])["sigma"] == 0.25


def test_where_no_radius_holds_nothing_is_written() -> None:
    certify(*RUN)
    refused("run", "--to", "out/model.pt", "--pairs", "1", said="none of the 4 certificates holds for the exported")
    assert list(Path("out").iterdir()) == []


def test_an_export_that_is_another_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    certify(*RUN)
    forward = export._AsCertified.forward
    monkeypatch.setattr(export._AsCertified, "forward", lambda self, x_BCHW: forward(self, x_BCHW) * 1.5)
    refused("run", "--to", "out/model.pt", said="the exported network has other logits than the certified one on")
    assert list(Path("out").iterdir()) == []


def test_what_cannot_be_exported_is_refused_in_a_sentence() -> None:
    certify(*RUN)
    refused("run", "--to", "model.tflite", said=r"--to must end in .onnx, .pt2, .pt, got model.tflite")
    refused("run", "--to", "run/radii.pt", "--pairs", "0", said="--pairs must be at least 1")
    Path("there.pt").write_text("mine")
    refused("run", "--to", "there.pt", said="there.pt is there already; pass --overwrite or another --to")
    assert Path("there.pt").read_text() == "mine"
    sys.modules.pop("of_arrays", None)
    Path("of_arrays.py").write_text("import numpy as np\ndef factory():\n    return lambda x: np.zeros(len(x), int)\n")
    images = ["--data", "images.npz", "--sigma", "0.5", "--limit", "2", "--no-check"]
    certify("run", "of_arrays:factory", *images, "--n", "200", "--out", "third/radii.tsv")
    refused("third/radii.tsv", "--to", "third.pt", said="only a network of PyTorch that draws no random numbers")
    assert not Path("third.pt").exists()
