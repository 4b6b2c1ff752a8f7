"""Hostile configurations, checkpoints and weights: each test is a defect that was found, and that is mended."""

import io
import json
import logging
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from fuzz.model_files import wrapped
from fuzz.watch import limited_memory, watched
from maxup_smoothing.certify.commands import arguments
from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.models.normalizations import normalization
from maxup_smoothing.data.runtime import strict_json, toml
from maxup_smoothing.train import checkpoint, config_file, models
from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.language.config import LanguageConfig
from maxup_smoothing.train.run_folder import RunFolder

SHAPE, BASE = (1, 4, 4), "base = 'fashion_sample_gaussian'\n"
DESCRIBED = {"schema": 1, "arch": "small", "image_shape": [1, 4, 4], "num_classes": 2, "options": {}}


def refused_text(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=match) as caught:
        config_file.load(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a" + ".a" * 45_000 + " = 1", "a line has more than"),  # tomllib took 150 s
        ("lr = " + "[" * 3000, "nested too deeply"),
        (BASE + "lr = 0x" + "f" * 3900, "below 2\\^63"),  # OverflowError, and then no text for the message
        (BASE + "lr = " + "1" * 3900, "below 2\\^63"),
        (BASE + "arch = 1" + "0" * 3900, "below 2\\^63"),
        ("x" * 100_001, "more than 100,000 bytes"),
        ("arch = '\udcff'", "not valid TOML"),
        ("base = 'c.toml'", "its own base"),
        (BASE + f"augment = ['{'x' * 300}']", "augment must be one of"),
    ],
)
def test_a_configuration_that_no_one_writes_is_refused_soon(tmp_path: Path, text: str, match: str) -> None:
    began = time.process_time()
    refused_text(tmp_path, text, match)
    assert time.process_time() - began < 2


def test_a_chain_of_bases_has_an_end(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.toml").write_text(f"base = '{number + 1}.toml'\n")
    with pytest.raises(ValueError, match="more than 20 levels deep"):
        config_file.load(str(tmp_path / "0.toml"))


@pytest.mark.parametrize(
    "change",
    [
        "lr=nan", "weight_decay=inf", "temperature=-1.0", "std=[0.0]", "mean=[nan]", "epochs=2147483648",
        "lr=1" + "0" * 400, "lr=0x" + "f" * 300, "m=" + "1" * 5000, "lr=" + "[" * 3000, "lr" + ".x" * 50_000 + "=1",
    ],
)  # fmt: skip
def test_a_setting_that_is_no_number_one_can_compute_with_is_refused(change: str) -> None:
    with pytest.raises(ValueError, match=r"^.{1,500}$"):
        config_file.load("fashion_sample_gaussian", [change])


@pytest.mark.parametrize(("name", "key"), [("fashion_sample_gaussian", "dataset"), ("ptb_plain", "corpus")])
def test_every_text_is_written_so_that_it_is_read_back(name: str, key: str, tmp_path: Path) -> None:
    kind: type[TrainConfig | LanguageConfig] = LanguageConfig if key == "corpus" else TrainConfig
    config = config_file.load(name, [key + ' = "a\\u007f\\"\\\\ \U0001f600.npz"'], kind=kind)
    assert "\x7f" in getattr(config, key)
    (tmp_path / "c.toml").write_text(config.to_toml(), encoding="utf-8")
    assert config_file.load(str(tmp_path / "c.toml"), kind=kind) == config


def test_toml_of_windows_is_toml(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"a = 1\r\nb = 2\r\n")
    assert toml.read(tmp_path / "c.toml") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": [1e999]}', "1e999 is too large"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\ud800": 1}', "surrogate"),
        ("[" * 60 + "]" * 60, "nested more than 50"),
        ("[" * 100_000, "nested more than 50"),
        ("1" * 5000, "digits"),
        ("\ufeff{}", "BOM"),
    ],
)
def test_json_that_can_be_read_in_two_ways_is_not_read(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        strict_json.parse(text)
    assert strict_json.parse(b'{"a": [{"b": "\\ud83d\\ude00"}, -1.5e3, null]}') == {
        "a": [{"b": "\U0001f600"}, -1500.0, None]
    }


@pytest.mark.parametrize(
    "metadata",
    [
        [], "x", 3, {**DESCRIBED, "arch": ["small"]}, {**DESCRIBED, "arch": "none"}, {**DESCRIBED, "image_shape": 3},
        {**DESCRIBED, "num_classes": 2**60}, {**DESCRIBED, "num_classes": 20_000}, {**DESCRIBED, "num_classes": True},
        {**DESCRIBED, "image_shape": [1, 30_000, 30_000]}, {**DESCRIBED, "options": []},
        {**DESCRIBED, "options": {"mean": 1}}, {**DESCRIBED, "options": {"depth": 1}}, {**DESCRIBED, "config": [1]},
        {**DESCRIBED, "schema": [1]},
    ],
)  # fmt: skip
def test_a_checkpoint_that_describes_another_model_than_its_weights_is_refused_in_little_memory(
    tmp_path: Path, metadata: Any
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(wrapped(json.dumps(metadata).encode()))
    with limited_memory(1 << 30), pytest.raises(ValueError, match=r"^.*x\.safetensors.*$"):
        checkpoint.load(path)


def test_a_checkpoint_without_its_data_set_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for config in ({}, {"dataset": 3}):
        path.write_bytes(wrapped(json.dumps({**DESCRIBED, "config": config}).encode()))
        with pytest.raises(ValueError, match="does not say what data"):
            loading.trained_on(str(path))


class Evil:
    """Unpickled by ``pickle`` it would write a file."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.where, "x")


@pytest.mark.parametrize("content", [b"", b".", b"\x80\x02.", b"\x80\x02]q\x00.", b"PK\3\4", b"\x80\x02(K\1e."])
def test_weights_that_are_none_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.pth"):
        loading.load(str(path), SHAPE, 2, arch="small")
    path.rename(tmp_path / "state.pt")
    config = config_file.load("fashion_sample_gaussian")
    (tmp_path / "config.toml").write_text(config.to_toml())
    with pytest.raises(ValueError, match=r"state\.pt is damaged"):
        RunFolder(tmp_path).find_state(config, resume=True)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_not_run(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "w.pth"
    torch.save({"x": Evil(tmp_path / "written")}, path, _use_new_zipfile_serialization=zipped)
    with watched(tmp_path / "nothing"), pytest.raises(ValueError, match="could run code and is refused"):
        loading.load(str(path), SHAPE, 2, arch="small")
    assert not (tmp_path / "written").exists()


def test_weights_whose_parts_are_compressed_are_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"x": torch.zeros(1000)}, stream)
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            new.writestr(part, old.read(part))
    with pytest.raises(ValueError, match="has compressed parts"):
        loading.load(str(tmp_path / "w.pth"), SHAPE, 2, arch="small")


@pytest.mark.parametrize("text", ["nan/1", "0/inf", "0/0", "0/-1", "1", "1/2/3", "x/y", "0/" + "1" * 5000 + "x"])
def test_a_normalisation_must_be_one_that_can_be_undone(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--normalize must be .{1,400}$"):
        normalization(text)


@pytest.mark.parametrize("text", ["1" * 5000, "\u0661", "-1", "1e3", "", "0x10", "1_0"])
def test_numbers_of_a_command_line_are_plain_digits(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--looks must be positive integers.{1,300}$"):
        arguments.integers("--looks", text)
    with pytest.raises(ValueError, match=r"^--batch-size must be auto or.{1,300}$"):
        arguments.batch_size(text)


def test_a_damaged_program_prints_no_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(b"PK\3\4 nothing")
    with pytest.raises(ValueError, match=r"^.*m\.pt2 is not a torch\.export program.*$"):
        loading.load(str(path), SHAPE, 2)
    assert "Traceback" not in "".join(capfd.readouterr())
    assert logging.getLogger("torch.export").level != logging.CRITICAL


def test_building_a_model_twice_leaves_no_trace_in_the_weights(tmp_path: Path) -> None:
    model = models.build("small", SHAPE, 2, mean=(0.25,), std=(0.5,)).eval()
    architecture = checkpoint.Architecture(arch="small", image_shape=SHAPE, num_classes=2, options={})
    checkpoint.save(tmp_path / "x.safetensors", model, architecture, {})
    loaded = checkpoint.load(tmp_path / "x.safetensors").model.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())
    assert all(tensor.device.type == "cpu" for tensor in loaded.values())
