"""Tables whose labels a class map has numbered as the network does."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from maxup_smoothing.analysis.report.datasets import Library
from maxup_smoothing.analysis.report.images import gallery
from maxup_smoothing.analysis.report.subjects import ReportRun, load_subjects
from maxup_smoothing.analysis.runs.run import load
from maxup_smoothing.data.formats import npz


def test_the_names_of_the_data_set_are_not_those_of_the_networks_numbers(tmp_path: Path) -> None:
    table, manifest = tmp_path / "radii.tsv", tmp_path / "radii.manifest.json"
    table.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t1\t0.5\t1\t3\n")
    manifest.write_text(json.dumps({"schema": 1, "data": {"name": "mnist"}}))
    assert load([table])[0].class_names == tuple("0123456789")
    manifest.write_text(json.dumps({"schema": 1, "data": {"name": "mnist", "class_map": {"0": 9}}}))
    assert load([table])[0].class_names is None


@pytest.mark.parametrize("mapping", [{"cat": 281, "dog": 207}, {"cat": "x"}, {"cat": 281}])
def test_a_report_finds_the_images_by_the_map_of_the_manifest(tmp_path: Path, mapping: dict[str, Any]) -> None:
    path = tmp_path / "pets.npz"
    images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    np.savez(path, images=images, labels=np.array([1, 0]), classes=np.array(["cat", "dog"]))
    told: dict[str, Any] = {"name": "pets.npz", "split": "file", "fingerprint": npz.read(path, "test").fingerprint}
    told |= {"class_map": mapping}
    table = pd.DataFrame({"idx": [0, 1], "label": [207, 281]})
    subject = SimpleNamespace(told=lambda section, key: told.get(key), run=SimpleNamespace(table=table))
    found = Library(tmp_path).of(cast(ReportRun, subject))
    if mapping == {"cat": 281, "dog": 207}:
        assert not isinstance(found, str)
        assert found.classes[281] == "cat"
    else:
        assert isinstance(found, str)
        assert found.startswith("The class map of the manifest does not fit the data")


def test_a_report_without_the_images_shows_the_numbers_of_the_map(tmp_path: Path) -> None:
    table, manifest = tmp_path / "radii.tsv", tmp_path / "radii.manifest.json"
    table.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t1\t0.5\t1\t3\n")
    for data, shown in (({}, "Trouser"), ({"class_map": {"0": 9}}, "class 1")):
        manifest.write_text(json.dumps({"schema": 1, "data": {"name": "fashion-mnist", **data}}))
        (subject,) = load_subjects([table])
        (group,) = gallery(subject, "no data").groups
        assert group.table is not None
        assert [row[1] for row in group.table.rows] == [shown]
