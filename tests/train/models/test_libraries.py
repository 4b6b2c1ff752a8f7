"""Networks of timm, torchvision and transformers as these libraries build them, on pictures of many sizes from disk.

Each library's tests run where it is installed, and are skipped otherwise.
"""

import importlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import of_arrays
from typer.testing import CliRunner

from maxup_smoothing.certify.commands.app import app as certify_app
from maxup_smoothing.data import registry
from maxup_smoothing.train import evaluate
from maxup_smoothing.train.__main__ import app
from maxup_smoothing.train.models import hub

#: Where torchvision's binary is for another build of torch, such as one without CUDA, it registers no operators. Two of
#: them are looked up when it is imported. No classifier of images uses these.
DECLARE = """
import torch
library = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
RUN = "import sys\nfrom maxup_smoothing.data.runtime import console\nfrom maxup_smoothing.train.__main__ import app\n"
RUN += "sys.argv[0] = 'train'\nconsole.run(app)\n"
NETWORKS: dict[str, tuple[str, list[str]]] = {
    "timm:resnet18": ("timm", ["optimizer=adamw", "lr=0.001", "layer_decay=0.8", "ema=0.9", "grad_checkpointing=true"]),
    "torchvision:mobilenet_v3_small": ("torchvision", ["clip=1.0"]),
    "hf:vit": ("transformers", ["optimizer=adamw", "lr=0.001", "decay_norms=false", "epochs=6"]),
}
CERTIFY = ["run", "whole", "--n", "100", "--n0", "20", "--seed", "1", "--batch-size", "20", "--device", "cpu"]
_kept = dict[str, Any]()  # the declarations end with their library object


def needs(package: str) -> str:
    """Skip a test without that package; returns what a process runs before it imports the package."""
    first = ""
    if package in ("timm", "torchvision"):
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            exec(DECLARE, _kept)
        except ImportError:
            pass
        first = DECLARE * ("library" in _kept)
    pytest.importorskip(package, reason=f"{package} is not installed")
    return first


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real images as JPEGs of random sizes: 60 to train on and 12 to test, in 3 classes; and a transformer's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    for split, count in (("train", 60), ("test", 12)):
        sample = registry.load("fashion-sample", split)
        numbers = np.flatnonzero(sample.labels < 3)[:count]
        colours = sample.images[numbers].repeat(3, axis=1).transpose(0, 2, 3, 1)
        of_arrays(Path("photos", split), colours, sample.labels[numbers], seed=count)
    Path("c.toml").write_text(
        'dataset = "photos"\nobjective = "maxup"\nm = 2\nsigma = 0.25\nepochs = 3\nbatch_size = 20\nlr = 0.02\n'
        'resize = 36\ncrop = 32\naugment = ["random_resized_crop", "flip"]\nworkers = 1\nprobe = 10\ndevice = "cpu"\n'
    )


def train(out: str, *changes: str, resume: bool = False) -> None:
    options = [option for change in changes for option in ("--set", change)] + ["--resume"] * resume
    result = CliRunner().invoke(app, ["c.toml", *options, "--out", out], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def interrupted(first: str, how: signal.Signals, out: str, *changes: str) -> int:
    """The exit status of a run that gets a signal after its first epoch."""
    options = [option for change in changes for option in ("--set", change)]
    with subprocess.Popen(
        [sys.executable, "-c", first + RUN, "c.toml", *options, "--out", out], stderr=subprocess.DEVNULL
    ) as child:
        table = Path(out, "train.csv")
        while child.poll() is None and not (table.exists() and table.read_bytes().count(b"\n") > 1):
            time.sleep(0.005)
        child.send_signal(how)
    return child.returncode


def lines(out: str) -> int:
    """Of the table of a run: its header, and one for each finished epoch."""
    return len(Path(out, "train.csv").read_text().splitlines())


def certify(*arguments: str) -> str:
    result = CliRunner().invoke(certify_app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def rows(path: str) -> list[list[str]]:
    """A radius table without its times."""
    return [fields[:5] + fields[6:] for fields in (line.split("\t") for line in Path(path).read_text().splitlines())]


@pytest.mark.parametrize("arch", NETWORKS)
@pytest.mark.usefixtures("photos")
def test_a_network_of_a_library_goes_the_whole_way_from_pictures_to_a_verified_table(arch: str) -> None:
    package, changes = NETWORKS[arch]
    first = needs(package)
    if package == "transformers":
        tiny = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
        importlib.import_module(package).ViTConfig(num_hidden_layers=2, **tiny).save_pretrained("vit")
    changes = [f"arch={arch}", *changes]
    train("whole", *changes)
    for out, how, status in (("stopped", signal.SIGTERM, 128 + signal.SIGTERM), ("killed", signal.SIGKILL, -9)):
        assert interrupted(first, how, out, *changes) == status
        assert 1 < lines(out) < lines("whole")
        train(out, *changes, "workers=0", resume=True)
        whole, again = (Path(folder, "checkpoint.safetensors").read_bytes() for folder in ("whole", out))
        assert whole == again
    tested = CliRunner().invoke(evaluate.app, ["whole"], catch_exceptions=False)
    assert "photos, test:" in tested.output
    assert "of 12 right" in tested.output
    said = certify(*CERTIFY, "--out", "all.tsv")
    assert "resized to 36 (bilinear), centre of 32x32 pixels, RGB, as the network was trained" in said
    verified = certify("verify", "all.tsv", "--rows", "all")
    assert "12 of 12 redrawn rows are equal" in verified
    assert "EXACT" in verified
    for part in "01":
        certify(*CERTIFY, "--shard", f"{part}/2", "--out", "parts/")
    certify("merge", *sorted(map(str, Path("parts").glob("*.tsv"))), "--out", "merged.tsv")
    assert rows("merged.tsv") == rows("all.tsv")
    assert "EXACT" in certify("verify", "merged.tsv", "--rows", "2")


def test_timm_declares_images_and_imagenets_synsets() -> None:
    needs("timm")
    timm = importlib.import_module("timm")
    how = hub.declared("timm:resnet18")
    config = timm.get_pretrained_cfg("resnet18")
    assert (how.side, how.resize, how.interpolation) == (224, int(224 / config.crop_pct), config.interpolation)
    classes = hub._timm_classes(timm.create_model("resnet18"))
    assert (len(classes), classes[0], classes[999]) == (1000, "n01440764", "n15075141")
    assert hub._timm_classes(timm.create_model("resnet18", num_classes=7)) == ()


def test_torchvision_declares_images_and_categories(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("torchvision")
    how = hub.declared("torchvision:mobilenet_v3_small")
    assert (how.side, how.resize, how.interpolation) == (224, 256, "bilinear")
    torchvision = importlib.import_module("torchvision")
    untrained = torchvision.models.mobilenet_v3_small()
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: untrained)  # downloads nothing
    network = hub.pretrained("torchvision:mobilenet_v3_small")
    assert (len(network.classes), network.classes[:2]) == (1000, ("tench", "goldfish"))
    with torch.no_grad():
        assert network.model(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
