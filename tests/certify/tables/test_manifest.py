import os
from pathlib import Path
from typing import Any

import pytest

from maxup_smoothing.certify.tables import manifest

MANIFEST: dict[str, Any] = {
    "model": {"sha256": "ab", "dtype": "float32"},
    "certification": {"sigma": 0.5, "alpha": 0.001, "index": [0, 20]},
    "notes": {"host": "a"},
}


@pytest.mark.parametrize(
    ("table", "beside"),
    [
        ("runs/x/radii.tsv", "runs/x/radii.manifest.json"),
        ("radii", "radii.manifest.json"),
        ("noise_0.25", "noise_0.25.manifest.json"),
        ("noise_0.25.tsv", "noise_0.25.manifest.json"),
    ],
)
def test_the_manifest_lies_beside_its_table(table: str, beside: str) -> None:
    assert manifest.manifest_path(table) == Path(beside)


def test_what_is_written_is_read_back_with_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "radii.manifest.json"
    manifest.write(path, MANIFEST)
    assert manifest.read(path) == {"schema": 1, **MANIFEST}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "radii.manifest.json"
    manifest.write(path, MANIFEST)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write: No space left on device.*radii\.manifest\.json"):
        manifest.write(path, {"other": 1})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is a folder"):
        manifest.write(tmp_path, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged: not JSON"),
        (b"\xff\xfe\xff", "is damaged"),
        ("[]", "is not a manifest"),
        ('{"model": 1}', "is not a manifest"),
        ('{"schema": 7}', "has manifest schema 7, this version reads schema 1"),
    ],
)
def test_a_damaged_or_foreign_manifest_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        manifest.read(path)


def test_values_that_json_cannot_say_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        manifest.encode({"alpha": float("nan")})
    with pytest.raises(ValueError, match="manifest of schema 1 was expected"):
        manifest.encode({"schema": 2})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": {"sha256": "cd", "dtype": "x"}}, 'model.sha256="ab", this run uses model.sha256="cd"'),
        (
            {"certification": {"sigma": 0.5, "alpha": 0.01, "index": [0, 20]}},
            "certification.alpha=0.001, this run uses",
        ),
        ({"certification": {"sigma": 0.5, "alpha": 0.001, "index": [0]}}, "certification.index=[0, 20], this run uses"),
        ({"model": {"sha256": "ab"}}, 'model.dtype="float32", this run uses model.dtype=(absent)'),
        ({"seed": 3}, "seed=(absent), this run uses seed=3"),
        ({"model": 5}, "model={"),
    ],
)
def test_the_first_difference_is_named_with_both_values(changed: dict[str, Any], said: str) -> None:
    difference = manifest.difference(MANIFEST, {**MANIFEST, **changed})
    assert difference is not None
    assert difference.told("this run uses").startswith(said)


def test_notes_numbers_of_either_type_and_tuples_do_not_differ() -> None:
    same = {"certification": {"sigma": 0.5, "alpha": 0.001, "index": (0, 20)}, "model": MANIFEST["model"], "notes": 3}
    assert manifest.difference({"schema": 1, **MANIFEST}, same) is None
    assert manifest.difference({"sigma": 1}, {"sigma": 1.0}) is None


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("sampling", "n", "many"),
        ("sampling", "procedure", 3),
        ("model", "arch", ["lenet"]),
        ("classifier", "batch_size", 0),
        ("classifier", "num_classes", True),
        ("data", "class_map", []),
        ("protocol", "indices", 7),
        ("protocol", "parts", [1]),
        ("noise", "seed", 2**64),
        ("noise", "probability_error", 1.0),
        ("notes", "images", -1),
        ("notes", "image_shape", [1, 0, 28]),
        ("notes", "images_sha256", {"0": 5}),
        ("notes", "micro_batch", {"rows": 3}),
        ("notes", "preflight", "one"),
        ("notes", "threads", [1, "two"]),
    ],
)
def test_values_of_another_kind_are_refused_when_a_manifest_is_read(
    tmp_path: Path, section: str, field: str, value: Any
) -> None:
    path = tmp_path / "m.json"
    manifest.write(path, {section: {field: value}})
    with pytest.raises(ValueError, match=rf"m.json is damaged: {section}\.{field} is .*; certify again"):
        manifest.read(path)
    manifest.write(path, {section: "text"})
    with pytest.raises(ValueError, match=rf"m.json is damaged: {section} is \"text\"; certify again"):
        manifest.read(path)
    manifest.write(path, {section: {field: None}})
    assert manifest.told(manifest.read(path), section, field) is None


def test_a_flag_differs_from_a_number() -> None:
    assert manifest.difference({"folded": True}, {"folded": 1}) == manifest.Mismatch("folded", True, 1)


def test_a_continuation_adds_images_and_warnings_to_the_notes() -> None:
    stored = {"images": 10, "preflight": ["a"], "host": "one"}
    assert manifest.continued_notes(stored, {"images": 10, "preflight": ["a"], "host": "two"}) == {}
    assert manifest.continued_notes(stored, {"images": 4}) == {}
    more = manifest.continued_notes(stored, {"images": 20, "preflight": ["b", "a"]})
    assert more == {"images": 20, "preflight": ["a", "b"]}
    threads = {**stored, "threads": 1}
    assert manifest.continued_notes(threads, {"images": 10, "threads": 1}) == {}
    assert manifest.continued_notes(threads, {"images": 10, "threads": 2}) == {"threads": [1, 2]}
    assert manifest.continued_notes({**stored, "threads": [1, 2]}, {"images": 10, "threads": 2}) == {}
