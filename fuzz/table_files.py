"""Parsers of tables, manifests, run folders and logs, with valid files that the project itself has."""

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from fuzz.parser import Parser
from maxup_smoothing.analysis.literature import curves
from maxup_smoothing.analysis.report.subjects import load_subjects
from maxup_smoothing.analysis.runs import folders, run
from maxup_smoothing.certify.audit.auditing import audit_log, render
from maxup_smoothing.certify.logs.reader import read_log
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables import prediction_table, radius_table
from maxup_smoothing.certify.tables.radius_table import RadiusTable
from maxup_smoothing.certify.tables.row import format_row

_ROOT = Path(__file__).parents[1]
_LENET = _ROOT / "docs/results/lenet/fashion_mnist/gaussian"
_LOGS = _ROOT / "tests/reference/logs"

_OTHER_ROWS = (
    "1\t3\t3\t0.6\t1\t0:00:01.250000\t100\t500\t495\t0.9\t0.5\t0.001\tcertified\t3:495,5:5\t3\t0.1\tsequential\t"
    "clopper-pearson\t200:198:2:0.0003,500:495:5:0.0003",
    "2\t3\t3\t0.6\t1\t0:00:01.250000\t100\t500\t495\t0.9\t0.5\t0.001\tcertified\tinvalid:1,3:495,5:4\t3\t0.05\t"
    "anytime\tjoint\t200:198:2:0.001,500:495:4:0.001",
)


@cache
def _rows() -> list[str]:
    return (_LENET / "radii.tsv").read_text().splitlines()


@cache
def _tables() -> list[bytes]:
    header, *rows = _rows()
    ours = [header, *rows[:4], next(row for row in rows if "abstain" in row)]
    forms = [ours, [header, *_OTHER_ROWS], ["\t".join(line.split("\t")[:6]) for line in ours]]
    return [("\n".join(lines) + "\n").encode() for lines in forms]


@cache
def _row() -> bytes:
    """A table of one row, for what lies beside what is fuzzed: every input reads it."""
    return ("\n".join(_rows()[:2]) + "\n").encode()


@cache
def _manifest() -> bytes:
    return (_LENET / "radii.manifest.json").read_bytes()


def _continue(path: Path) -> None:
    """Go on with a table, as ``certify run`` does."""
    with RadiusTable.open(path, json.loads(_manifest())):
        pass


def _read_table(path: Path) -> None:
    found = radius_table.read(path)
    assert (found["radius"] >= 0).all()
    assert np.isfinite(found["radius"]).all()


def _read_rows(path: Path) -> None:
    for row in radius_table.read_rows(path)[0]:
        format_row(row)


def _audit(path: Path) -> None:
    render(audit_log(path))


def _predict(path: Path) -> None:
    with prediction_table.PredictionTable.open(path, {"sampling": {"n": 100}}):
        pass


_PREDICTIONS = (
    "\t".join(prediction_table.COLUMNS) + "\n"
    "0\t3\t3\t1\t0:00:00.001000\t100\t0.5\t0.001\t3:90,5:10\n"
    "1\t3\t-1\t0\t0:00:00.001000\t100\t0.5\t0.001\tinvalid:1,3:52,5:47\n"
)
_CONFIG = """dataset = "fashion-mnist"
arch = "lenet"
objective = "gaussian"
sigma = 0.5
epochs = 2
batch_size = 64
lr = 0.1
seed = 3
"""
_TRAINING = "epoch,seconds,images_per_second,loss\n0,1.5,4000,2.3\n1,1.25,4800,1.1\n"
_ENVIRONMENT = '{"command": "python -m train x", "torch": "2.13.0", "device": "cpu"}'


@cache
def _run() -> dict[str, bytes]:
    texts = {"config.toml": _CONFIG, "train.csv": _TRAINING, "environment.json": _ENVIRONMENT}
    files = {f"run/{name}": text.encode() for name, text in texts.items()}
    return {**files, "run/radii.tsv": _row(), "run/radii.manifest.json": _manifest()}


def _read_run(path: Path) -> None:
    for one in folders.load_folders([path.parent]):
        one.warnings(), one.total_seconds(), one.median("images_per_second"), one.sigma, one.dataset


def _one_method(path: Path) -> None:
    folders.one_method([path.with_name("radii.tsv")])


def _subjects(path: Path) -> None:
    load_subjects([path.with_name("radii.tsv")])


def _in_run(name: str, file: str, seeds: Any) -> Parser:
    return Parser(
        name=name,
        file=f"run/{file}",
        seeds=seeds,
        beside=_run,
        readers=(_read_run, _one_method, _subjects),
        slow=4,
    )


def _read_manifest(path: Path) -> None:
    found = manifests.read(path)
    manifests.encode(found)
    manifests.difference(found, json.loads(_manifest()))


@cache
def _logs() -> list[bytes]:
    found = [path.read_bytes()[:700] for path in sorted(_LOGS.iterdir()) if path.suffix != ".md"]
    for compressed in (False, True):
        stream = io.BytesIO()
        savemat(stream, {"hard": np.array([0.5, -1.0])}, do_compression=compressed)  # type: ignore[arg-type]
        found.append(stream.getvalue())
    stream = io.BytesIO()
    np.save(stream, np.array([["0", "3", "3", "1", "1", "0", "0.99", "0:00:01"]]))
    votes = "idx\tlabel\tcounts\n0\t1\t[3, 97]\n1\t0\t[ 99, 1 ]\n"
    named = "idx\tcorrect\tradius\tlabel\tpredict\n0\t1\t0.5\tcat\tcat\n1\t0\t0.0\tcat\t-1\n"
    others = [
        "900 60 40 0\n1 0 999 2\n",
        "idx\tradius\n1\t0.25\n",
        "0.0 0.25 0.5\n0.9 0.5 0.1\n",
        "=> loading\nidx;label;predict;radius\n0;3;3;0,5\n 1%| 1/9\n20;2;-1;nan\n",
    ]
    return [*found, stream.getvalue(), votes.encode(), named.encode(), *(text.encode() for text in others), *_tables()]


def _read_log(path: Path) -> None:
    found = read_log(path, sigma=0.5, n=1000, alpha=0.001).table
    assert "radius" not in found or np.isfinite(found["radius"]).all()


@cache
def _published() -> list[bytes]:
    lines = (_ROOT / "analysis/literature/published/cifar10.csv").read_text().splitlines()
    return [("\n".join(lines[:4]) + "\n").encode()]


_DSRS = b"x std 0.5\nx N 1000\nx alpha 0.002\no 0 0.9 0.99\n"

PARSERS = [
    Parser(
        name="radius_table",
        file="radii.tsv",
        seeds=_tables,
        beside=lambda: {"radii.manifest.json": _manifest()},
        readers=(_read_table, _read_rows, _audit, _continue, lambda path: run.load([path])),
    ),
    Parser(
        name="predictions",
        file="predictions.tsv",
        seeds=lambda: [_PREDICTIONS.encode()],
        beside=lambda: {"predictions.manifest.json": b'{"schema": 1, "sampling": {"n": 100}}'},
        readers=(_predict,),
    ),
    Parser(
        name="manifest",
        file="radii.manifest.json",
        seeds=lambda: [_manifest()],
        beside=lambda: {"radii.tsv": _row()},
        readers=(
            _read_manifest,
            lambda path: _read_rows(path.with_name("radii.tsv")),
            lambda path: _continue(path.with_name("radii.tsv")),
            lambda path: _audit(path.with_name("radii.tsv")),
            _subjects,
        ),
    ),
    _in_run("train_csv", "train.csv", lambda: [_TRAINING.encode()]),
    _in_run("environment", "environment.json", lambda: [_ENVIRONMENT.encode()]),
    _in_run("run_config", "config.toml", lambda: [_CONFIG.encode()]),
    _in_run("run_manifest", "radii.manifest.json", lambda: [_manifest()]),
    Parser(name="log", file="log", seeds=_logs, readers=(_read_log, read_log, _audit)),
    Parser(
        name="log_arguments",
        file="certify_args.json",
        seeds=lambda: [b'{"sigma": 0.5, "alpha": 0.001}'],
        beside=lambda: {"votes.txt": b"idx\tlabel\tcounts\n0\t1\t[3, 97]\n"},
        readers=(lambda path: read_log(path.with_name("votes.txt")),),
    ),
    Parser(name="published", file="rows.csv", seeds=_published, readers=(curves.load_published,)),
]
