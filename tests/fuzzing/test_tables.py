"""Hostile tables, manifests, run folders and logs: each test is a defect that was found, and that is mended."""

import json
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from fuzz.data_files import member
from fuzz.table_files import PARSERS
from fuzz.watch import limited_memory
from maxup_smoothing.analysis.literature import curves
from maxup_smoothing.analysis.report.subjects import load_subjects
from maxup_smoothing.analysis.runs import folders
from maxup_smoothing.certify.audit.auditing import audit_log
from maxup_smoothing.certify.logs.reader import read_log
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.radius_table import RadiusTable
from maxup_smoothing.certify.tables.row import parse_row

RUN = next(parser for parser in PARSERS if parser.name == "run_config").beside()


def run_folder(tmp_path: Path, **files: bytes) -> Path:
    for name, content in {
        **RUN,
        **{f"run/{name.replace('__', '.')}": content for name, content in files.items()},
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "run"


def manifest_with(*keys: str, value: Any) -> bytes:
    manifest: dict[str, Any] = json.loads(RUN["run/radii.manifest.json"])
    part = manifest
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    return json.dumps(manifest).encode()


@pytest.mark.parametrize(
    "content", [b'{"schema": 1, "a": 1, "a": 2}', b'{"schema": 1, "a": Infinity}', b"[" * 10**5, b"1" * 5000]
)
def test_a_manifest_that_can_be_read_in_two_ways_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "radii.manifest.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"radii\.manifest\.json is damaged: not JSON"):
        manifests.read(path)


@pytest.mark.parametrize(
    ("name", "value"), [("n", "many"), ("n", True), ("n0", {}), ("sigma", [1]), ("alpha", "0.1"), ("procedure", 3)]
)
def test_settings_of_another_type_than_any_run_writes_are_refused(tmp_path: Path, name: str, value: object) -> None:
    folder = run_folder(tmp_path, radii__manifest__json=manifest_with("sampling", name, value=value))
    with pytest.raises(ValueError, match=rf"sampling\.{name} is "):
        RadiusTable.open(folder / "radii.tsv", json.loads(RUN["run/radii.manifest.json"]))
    assert not audit_log(folder / "radii.tsv").ok


@pytest.mark.parametrize("value", [[], "x", None, 3])
def test_settings_that_are_no_table_are_refused(tmp_path: Path, value: object) -> None:
    folder = run_folder(tmp_path, radii__manifest__json=manifest_with("sampling", value=value))
    with pytest.raises(ValueError, match=r"was certified with sampling|sampling is "):
        RadiusTable.open(folder / "radii.tsv", json.loads(RUN["run/radii.manifest.json"]))


def test_a_protocol_of_a_thousand_million_images_fills_no_memory(tmp_path: Path) -> None:
    manifest = manifest_with("protocol", "indices", value=",".join(["0:999999999:1"] * 50))
    folder = run_folder(tmp_path, radii__manifest__json=manifest)
    with limited_memory(1 << 30):
        audit_log(folder / "radii.tsv")


def test_thousands_of_looks_are_refused_before_they_are_checked() -> None:
    looks = ",".join(f"{10 * k}:{9 * k}:{k}:0.001" for k in range(1, 10_001))
    row = "1 3 3 0.1 1 0:00:01 100 100000 90000 0.5 0.5 0.001 certified 3:90000,5:10000 3 0.5 anytime joint"
    began = time.process_time()
    with pytest.raises(ValueError, match="there are 10000 looks"):
        parse_row("\t".join([*row.split(), looks]))
    assert time.process_time() - began < 5


def test_an_error_shows_a_field_of_a_million_characters_in_part() -> None:
    with pytest.raises(ValueError, match=r"^idx must be an integer >= 0, got .{1,250}$"):
        parse_row("x" * 10**6 + "\t" * 18)


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"config__toml": b'epochs = "many"'}, "config.toml is damaged: epochs"),
        ({"config__toml": b"sigma = [1]"}, "config.toml is damaged: sigma"),
        ({"config__toml": b"a = " + b"[" * 3000}, "config.toml is not TOML .it is nested"),
        ({"train__csv": b"epoch,seconds\n0,fast\n"}, "train.csv is damaged: seconds must be numbers"),
        ({"train__csv": b"epoch\nnone\n"}, "train.csv is damaged: epoch must be numbers"),
        ({"train__csv": b"epoch," + b"," * 10**5 + b"\n" + b"1\n" * 10**5}, "train.csv is damaged .too many columns"),
        ({"train__csv": b"epoch\n\xff\n"}, "train.csv is damaged"),
        ({"environment__json": b"[" * 10**5}, "environment.json.* is not JSON .nested"),
        ({"environment__json": b'{"a": 1, "a": 2}'}, "environment.json.* is not JSON .'a' is there twice"),
    ],
)  # fmt: skip
def test_a_run_folder_with_values_that_training_never_writes_is_refused(
    tmp_path: Path, files: dict[str, bytes], match: str
) -> None:
    folder = run_folder(tmp_path, **files)
    with limited_memory(1 << 30), pytest.raises(ValueError, match=match):
        folders.load_folders([folder])[0].warnings()
    with limited_memory(1 << 30):  # a report goes on without what lies beside the table
        assert load_subjects([folder / "radii.tsv"])[0].notes


HEADER = "dataset,arch,method,sigma,subset,images,seeds,n,alpha,acr,source"


@pytest.mark.parametrize(
    "content",
    [
        f'{HEADER}\n"{"x" * 200_000}"\n'.encode(),
        HEADER.encode() + b"\n\xff\n",
        f"{HEADER},nan\nmnist,l,m,0.5,full,10000,1,10,0.1,1,s,50\n".encode(),
        f"{HEADER}\nmnist,l,m,inf,full,10000,1,10,0.1,1,s\n".encode(),
        f"{HEADER}\nmnist,l,m,0.5,full,{'1' * 5000},1,10,0.1,1,s\n".encode(),
        f"{HEADER}\nmnist\n".encode(),
    ],
)
def test_published_rows_that_are_none_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rows\.csv"):
        curves.load_published(path)


def mat_element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def mat_head(matlab_class: int, size: tuple[int, int], name: bytes) -> bytes:
    return (
        mat_element(6, struct.pack("<II", matlab_class, 0))
        + mat_element(5, struct.pack("<2i", *size))
        + mat_element(1, name)
    )


MAT = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def test_cells_within_cells_do_not_bring_the_process_down(tmp_path: Path) -> None:
    # scipy goes down them without a limit: 30,000 levels, of 1.4 MB, end in a segmentation fault.
    length, heads = 0, []
    for level in range(30_000):
        head = mat_head(1, (1, 1), b"hard" if level == 29_999 else b"")
        heads.append(struct.pack("<II", 14, len(head) + length) + head)
        length += len(heads[-1])
    (tmp_path / "x.mat").write_bytes(MAT + b"".join(reversed(heads)))
    with pytest.raises(ValueError, match="hard must be an array of numbers"):
        read_log(tmp_path / "x.mat")


def test_numbers_of_a_type_that_there_is_not_do_not_bring_the_process_down(tmp_path: Path) -> None:
    # scipy 1.15 looks the type up beyond the end of its table: a segmentation fault.
    numbers = mat_head(6, (1, 2), b"hard") + mat_element(41, struct.pack("<2d", 0.5, -1))
    (tmp_path / "x.mat").write_bytes(MAT + mat_element(14, numbers))
    with pytest.raises(ValueError, match="hard is damaged: its numbers are of a type 41"):
        read_log(tmp_path / "x.mat")


def test_a_compressed_array_of_millions_of_numbers_is_refused_by_its_header(tmp_path: Path) -> None:
    numbers = mat_head(6, (1, 2_000_000), b"hard") + mat_element(9, bytes(8 * 2_000_000))
    packed = zlib.compress(mat_element(14, numbers), 1)
    (tmp_path / "x.mat").write_bytes(MAT + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(ValueError, match="at most 1000000 of them"):
        read_log(tmp_path / "x.mat")


def test_an_array_of_text_without_characters_is_not_endless(tmp_path: Path) -> None:
    header = "{'descr': '<U0', 'fortran_order': False, 'shape': (100000000, 8)}\n"
    (tmp_path / "x.npy").write_bytes(member(header.encode()))
    with limited_memory(1 << 30), pytest.raises(ValueError, match="its header claims the shape"):
        read_log(tmp_path / "x.npy")
