"""``certify`` on folders of pictures of many sizes: run, resume, shard, merge, verify, and what is refused."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from pictures import of_arrays, photograph, save, zoo
from PIL import Image
from typer.testing import CliRunner

from maxup_smoothing.analysis.report.datasets import Library
from maxup_smoothing.analysis.report.subjects import ReportRun
from maxup_smoothing.certify.commands.app import app
from maxup_smoothing.certify.distributed.merge import merge_tables
from maxup_smoothing.data.runtime import console
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture

MODEL = """
from torch import nn

class Colours(nn.Module):
    def forward(self, x):
        assert x.shape[1:] == (3, 16, 16)
        means = x.mean((2, 3))
        return 20 * (means[:, :2] - means.mean(1, keepdim=True))

def factory():
    return Colours().eval()
"""
HOW = ["--resize", "20", "--crop", "16"]
RUN = [
    "run",
    "colours.py:factory",
    "--data",
    "photos",
    "--sigma",
    "0.25",
    "--n",
    "200",
    "--seed",
    "1",
    "--device",
    "cpu",
]
RUN += ["--batch-size", "32", "--no-check"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    Path("colours.py").write_text(MODEL)
    zoo(Path("photos"))


def certify(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of an error of status 2."""
    monkeypatch.setattr(sys, "argv", ["certify", *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        console.run(app)
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert stop.value.code == console.USAGE_ERROR
    assert len(said) == 1
    return said[0]


def rows(path: str) -> list[list[str]]:
    lines = [line.split("\t") for line in Path(path).read_text().splitlines()]
    at = lines[0].index("time")
    return sorted(line[:at] + line[at + 1 :] for line in lines[1:])


def manifest(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).with_suffix(".manifest.json").read_text())
    return found


def test_a_folder_of_pictures_of_all_kinds_is_certified_resumed_and_verified() -> None:
    said = certify(*RUN, *HOW, "--out", "all.tsv")
    assert "note: images: shorter side resized to 20 (bilinear), centre of 16x16 pixels, RGB.\n" in said
    told = manifest("all.tsv")
    assert told["data"]["preprocessing"] == {"resize": 20, "crop": 16, "interpolation": "bilinear", "grayscale": False}
    assert told["data"]["fingerprint_of"] == "names and sizes of files"
    assert list(told["notes"]["images_sha256"]) == [str(idx) for idx in range(12)]
    certify(*RUN, *HOW, "--limit", "5", "--out", "part.tsv")
    assert len(manifest("part.tsv")["notes"]["images_sha256"]) == 5
    certify(*RUN, *HOW, "--out", "part.tsv")
    assert rows("part.tsv") == rows("all.tsv")
    assert manifest("part.tsv")["notes"]["images_sha256"] == told["notes"]["images_sha256"]
    assert "EXACT" in certify("verify", "all.tsv", "--rows", "all")


def test_shards_of_pictures_are_one_table_again() -> None:
    certify(*RUN, *HOW, "--out", "all.tsv")
    for shard in ("0/2", "1/2"):
        certify(*RUN, *HOW, "--shard", shard, "--out", f"shard{shard[0]}.tsv")
    merge_tables(["shard0.tsv", "shard1.tsv"], "merged.tsv")
    assert rows("merged.tsv") == rows("all.tsv")
    told = manifest("merged.tsv")["notes"]["images_sha256"]
    assert told == manifest("all.tsv")["notes"]["images_sha256"]
    assert "EXACT" in certify("verify", "merged.tsv", "--rows", "all")
    certify(*RUN, *HOW, "--out", "merged.tsv")  # nothing is left to do


def test_the_folder_may_lie_elsewhere_when_a_table_is_verified() -> None:
    certify(*RUN, *HOW, "--out", "all.tsv")
    Path("photos").rename("moved")
    assert "EXACT" in certify("verify", "all.tsv", "--data", "moved", "--rows", "3")


@pytest.mark.parametrize("command", ["run", "verify"])
def test_a_picture_that_was_replaced_by_one_of_the_same_size_is_noticed(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    certify(*RUN, *HOW, "--limit", "9", "--out", "all.tsv")
    before = Path("all.tsv").read_bytes()
    path = Path("photos/dog/03.bmp")
    content = bytearray(path.read_bytes())
    content[-2000:-1000] = bytes(1000)
    path.write_bytes(content)
    again = [*RUN, *HOW, "--out", "all.tsv"] if command == "run" else ["verify", "all.tsv", "--rows", "all"]
    assert "03.bmp has other pixels than the image 8 that was certified" in refused(monkeypatch, capsys, *again)
    assert Path("all.tsv").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--resize", "21", "--crop", "16"], "this run uses images with shorter side resized to 21 (bilinear), centre"),
        (
            [*HOW, "--interpolation", "bicubic"],
            "this run uses images with shorter side resized to 20 (bicubic), centre",
        ),
    ],
)
def test_a_table_is_not_continued_with_other_pixels(
    options: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    certify(*RUN, *HOW, "--limit", "3", "--out", "all.tsv")
    before = Path("all.tsv").read_bytes()
    assert told in refused(monkeypatch, capsys, *RUN, *options, "--out", "all.tsv")
    assert Path("all.tsv").read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "06.webp: not a readable image"),
        (lambda path: path.write_bytes(b""), "06.webp: not a readable image"),
        (lambda path: path.write_bytes(b"%!PS-Adobe-3.0"), "06.webp: not a readable image"),
        (lambda path: photograph(1, 9, 9).convert("I;16").save(path, "PNG"), "06.webp: expected 8 bits per channel"),
        (lambda path: photograph(1, 9, 9).convert("LA").save(path, "PNG"), None),
    ],
)
def test_an_unusable_picture_is_refused_by_name_before_anything_is_written(
    spoil: Any, match: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(Path("photos/dog/06.webp"))
    if match is None:
        certify(*RUN, *HOW, "--out", "all.tsv")
        return
    said = refused(monkeypatch, capsys, *RUN, *HOW, "--out", "all.tsv")
    assert match in said
    assert said.endswith(("replace or remove it.", "first."))
    assert not list(Path().glob("all*"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            [],
            "images must all have one size, got 60x40 in photos/cat/01.jpg and 41x67 in photos/cat/02.png; resize or ",
        ),
        (["--resize", "20", "--crop", "30"], "crop must be at most resize"),
        (["--resize", "big"], "--resize must be a whole number of pixels, or auto, got 'big'"),
        (["--interpolation", "bicubic"], "images of any size need resize or crop"),
        (["--resize", "20", "--interpolation", "cubic"], "interpolation must be one of nearest, box"),
        (["--resize", "auto"], "--resize auto is for networks of timm, torchvision and transformers, which declare it"),
        (["--resize", "20", "--labels", "photos"], "has class folders, which say the labels of their images"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: list[str], match: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert match in refused(monkeypatch, capsys, *RUN, *options, "--out", "all.tsv")
    assert not list(Path().glob("all*"))


def test_only_the_files_of_the_protocol_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12, 200):
        save(Path("photos") / "dog" / f"{number}.png", photograph(number, 20, 20))
    opened, original = set[str](), Path.is_file

    def watched(path: Path) -> bool:
        opened.add(path.name)
        return original(path)

    monkeypatch.setattr(Path, "is_file", watched)
    certify(*RUN, *HOW, "--protocol", "skip50", "--out", "all.tsv")
    used = {name for name in opened if name.endswith((".png", ".jpg", ".webp", ".bmp", ".tif"))}
    assert len(used) <= 32 + 4  # the first 32 tell one function from another


def test_flat_validation_images_are_labelled_by_a_file_and_numbered_by_the_networks_list() -> None:
    for path in Path("photos").rglob("*.*"):
        path.rename(f"{path.parent.name}-{path.name}")
    names = sorted(path.name for path in Path().glob("[cd][ao][tg]-*"))
    Path("flat").mkdir()
    for name in names:
        Path(name).rename(Path("flat") / name)
    Path("val.txt").write_text("".join(f"{name} {name[:3]}\n" for name in names))
    Path("classes.json").write_text('["dog", "cat"]')
    run = [text if text != "photos" else "flat" for text in RUN]
    certify(*run, *HOW, "--labels", "val.txt", "--class-map", "classes.json", "--out", "all.tsv")
    labels = {line[1] for line in rows("all.tsv") if int(line[0]) < 6}
    assert labels == {"1"}
    assert manifest("all.tsv")["notes"]["labels"] == "val.txt"
    assert "EXACT" in certify("verify", "all.tsv", "--rows", "3")


def test_a_checkpoint_says_how_its_images_were_prepared(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    of_arrays(Path("jpegs"), images, np.arange(10) % 5)
    architecture = Architecture(arch="lenet", image_shape=(3, 28, 28), num_classes=5, options={})
    config = {"sigma": 0.25, "dataset": "jpegs", "resize": 32, "crop": 28, "interpolation": "bicubic"}
    torch.manual_seed(0)
    checkpoint.save(Path("run/checkpoint.safetensors"), architecture.build(), architecture, {"config": config})
    command = ["run", "run", "--n", "100", "--seed", "0", "--no-check", "--batch-size", "8", "--device", "cpu"]
    said = certify(*command)
    assert "resized to 32 (bicubic), centre of 28x28 pixels, RGB, as the network was trained" in said
    assert manifest("run/radii.tsv")["data"]["preprocessing"]["interpolation"] == "bicubic"
    certify(*command, "--resize", "30", "--crop", "28", "--out", "other.tsv")
    assert manifest("other.tsv")["data"]["preprocessing"]["resize"] == 30
    assert "EXACT" in certify("verify", "other.tsv", "--rows", "2")


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_auto_takes_what_the_network_declares(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from colours import factory  # type: ignore[import-not-found]

    config = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "input_size": (3, 16, 16), "crop_pct": 0.75}
    config |= {"interpolation": "bicubic", "crop_mode": "center"}
    data = SimpleNamespace(resolve_model_data_config=lambda model: config)
    timm = SimpleNamespace(create_model=lambda name, **options: factory(), data=data)
    monkeypatch.setitem(sys.modules, "timm", timm)
    transforms = SimpleNamespace(
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        crop_size=[16],
        resize_size=[21],
        interpolation=SimpleNamespace(value="bicubic"),
    )
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(transforms=lambda: transforms))
    models = SimpleNamespace(get_model_weights=lambda name: weights, get_model=lambda name, weights: factory())
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=models))
    run = [f"{library}:tiny" if text == "colours.py:factory" else text for text in RUN]
    said = certify(*run, "--resize", "auto", "--limit", "2", "--out", "all.tsv")
    told = f"shorter side resized to 21 (bicubic), centre of 16x16 pixels, RGB, as {library}:tiny declares"
    assert told in said
    assert "EXACT" in certify("verify", "all.tsv", "--rows", "2")


def test_a_report_finds_the_pictures_by_what_the_manifest_says_of_them(tmp_path: Path) -> None:
    certify(*RUN, *HOW, "--out", "all.tsv")
    told = manifest("all.tsv")
    table = pd.DataFrame({"idx": [0, 11], "label": [0, 1]})
    run = SimpleNamespace(table=table)
    subject = SimpleNamespace(told=lambda *keys: told[keys[0]].get(keys[1]), run=run)
    found = Library(tmp_path).of(cast(ReportRun, subject))
    assert not isinstance(found, str)
    assert found.images[[0, 11]].shape == (2, 3, 16, 16)
    told["data"]["preprocessing"]["resize"] = 21
    assert "has another fingerprint" in str(Library(tmp_path).of(cast(ReportRun, subject)))


def test_classes_in_another_order_than_the_networks_are_noticed_by_the_accuracy() -> None:
    for number in range(40):
        colour = (200, 30, 30) if number % 2 else (30, 200, 30)  # the network's classes 0 and 1
        save(Path("flat") / f"{number:02}.png", Image.new("RGB", (20 + number, 24), colour))
    Path("val.txt").write_text("".join(f"{number:02}.png {['green', 'red'][number % 2]}\n" for number in range(40)))
    check = [
        "check",
        "colours.py:factory",
        "--data",
        "flat",
        "--labels",
        "val.txt",
        "--resize",
        "16",
        "--sigma",
        "0.25",
    ]
    said = certify(*check, "--device", "cpu", "--batch-size", "32")
    assert "warning  accuracy: clean 0 of 40 right" in said
    assert "with its classes numbered otherwise (0 is 1, 1 is 0), f is right for 20 of 20 images" in said
    assert "number the labels of the data as in training, or pass --class-map FILE" in said
    Path("classes.json").write_text('["red", "green"]')
    assert "clean 40 of 40 right" in certify(
        *check, "--class-map", "classes.json", "--device", "cpu", "--batch-size", "32"
    )
