"""Tables stated in other norms and among first classes, as text and as JSON for other programs."""

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from certify_command import certify
from one_look import certificate
from places import ROOT
from tiny_table import make_row

from maxup_smoothing.certify.statistics.certificate import Look, certificate_of
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.evidence import Statement, document, encode, manifest_of
from maxup_smoothing.certify.tables.radius_table import RadiusTable, Row, read, row_of
from maxup_smoothing.certify.tables.recompute import recompute_table
from maxup_smoothing.certify.tables.restated import AMONG, restated

SCHEMA = json.loads((ROOT / "docs/evidence.schema.json").read_text())
LENET = ROOT / "docs/results/lenet/mnist/gaussian/radii.tsv"
MANIFEST: dict[str, Any] = {
    "classifier": {"num_classes": 6, "weights_sha256": "ab", "dtype": "float32", "batch_size": 8},
    "data": {"name": "d", "split": "test", "fingerprint": "cd"},
    "noise": {"seed": 2**64 - 1, "probability_error": 0.0},
    "notes": {"image_shape": [1, 2, 3]},
}


def voted(idx: int, votes: list[int], *, label: int = 0, bound: str = "joint", error: float = 0.0) -> Row:
    chosen = np.array([100, 0, 0, 0, 0, 0, 0])
    proved = certificate(chosen, np.array([*votes, 0]), 0.001, 0.5, probability_error=error, bound=bound)
    return row_of(proved, idx, label, n0=100, sigma=0.5, alpha=0.001, seconds=1.0)


def write(path: Path, rows: list[Row], manifest: dict[str, Any] = MANIFEST) -> Path:
    RadiusTable.write(path, manifest, rows)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    votes = [[600, 200, 100, 50, 30, 20], [300, 500, 150, 50, 0, 0], [990, 10, 0, 0, 0, 0]]
    return write(tmp_path / "radii.tsv", [voted(i, one, label=0) for i, one in enumerate(votes)])


@pytest.mark.parametrize("norm", ["l2", "l1", "linf"])
@pytest.mark.parametrize("top_k", [None, 1, 2])
@pytest.mark.parametrize("simultaneous", [False, True])
def test_the_evidence_fits_its_schema_and_claims_no_more_than_the_table(
    path: Path, norm: str, top_k: int | None, simultaneous: bool
) -> None:
    statement = Statement(norm=norm, top_k=top_k, simultaneous=simultaneous)
    found = json.loads(encode(document(path, statement)), parse_constant=pytest.fail)
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    assert (found["norm"], found["top_k"], found["dimension"]) == (norm, top_k, 6 if norm == "linf" else None)
    assert found["hashes"]["weights_sha256"] == "ab"
    assert found["subject"]["noise"]["seed"] == str(2**64 - 1)
    scale = 6 if norm == "linf" else 1
    stored = read(path)
    for row, radius, label in zip(found["rows"], stored["radius"], stored["predict"], strict=True):
        if top_k in (None, 1) and row["predict"] == label:
            assert Fraction(row["radius"]) ** 2 * scale <= Fraction(float(radius)) ** 2
    assert found["alpha_of_all_rows"] == (0.001 if simultaneous else None)
    assert f"{norm} norm is below" in found["guarantee"]
    assert ("out of the first" in found["guarantee"]) == bool(top_k)


@pytest.mark.parametrize("what", ["unlabelled", "six columns", "sequential", "bare manifest"])
def test_evidence_of_every_kind_of_table_fits_the_schema(tmp_path: Path, what: str) -> None:
    file = tmp_path / "radii.tsv"
    if what == "six columns":
        file.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t1\t0.5\t1\t3\n1\t1\t-1\t0\t0\t3\n")
    elif what == "sequential":
        write(file, [sequential()], {**MANIFEST, "sampling": {"n": 5000}})
    elif what == "unlabelled":
        write(file, [voted(0, [600, 400, 0, 0, 0, 0], label=-1), voted(1, [500, 500, 0, 0, 0, 0], label=-1)])
    else:
        write(
            file,
            [voted(0, [600, 400, 0, 0, 0, 0])],
            {"classifier": {}, "noise": {"seed": None}, "notes": None},
        )
    found = json.loads(encode(document(file, Statement())), parse_constant=pytest.fail)
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    assert all(row["predict"] is not None or row["radius"] == 0 for row in found["rows"])
    if what == "six columns":
        assert found["rows"][0]["alpha"] is None
        assert "does not tell" in found["guarantee"]


def sequential() -> Row:
    looks = [Look(200, 120, 50, 0.0002), Look(1000, 600, 250, 0.0003)]
    counts_V = np.array([600, 250, 100, 50, 0, 0, 0])
    settings: dict[str, Any] = {"sigma": 0.5, "procedure": "sequential", "bound": "joint", "probability_error": 0.0}
    return row_of(certificate_of(looks, 0, counts_V, **settings), 0, 0, n0=100, sigma=0.5, alpha=0.001, seconds=1.0)


def test_the_true_label_is_certified_where_the_selected_class_is_another(path: Path) -> None:
    table = restated(read(path), MANIFEST, top_k=2)
    assert table["predict"].tolist() == [0, 0, 0]  # the label, of the second image not the most frequent class
    assert (table["radius"] > 0).all()
    assert (table[AMONG] == 2).all()
    usual = read(path)
    assert usual["correct"].tolist() == [1, 0, 1]
    assert restated(usual, MANIFEST, top_k=1)["radius"][0] == pytest.approx(usual["radius"][0], rel=1e-12)


def test_images_without_labels_are_about_the_selected_class(tmp_path: Path) -> None:
    file = write(tmp_path / "radii.tsv", [voted(0, [600, 300, 100, 0, 0, 0], label=-1)])
    table = restated(read(file), MANIFEST, top_k=2)
    assert (table["predict"][0], table["correct"][0]) == (0, 0)


def test_the_noises_distance_and_what_was_taken_off_a_radius_are_taken_off_again(tmp_path: Path) -> None:
    votes = [600, 200, 100, 50, 30, 20]
    plain, noisy = voted(0, votes), voted(0, votes, error=0.01)
    told = {**MANIFEST, "noise": {"probability_error": 0.01}}

    def radius(row: Row, manifest: dict[str, Any]) -> float:
        return float(restated(read(write(tmp_path / "r.tsv", [row], manifest)), manifest, top_k=2)["radius"][0])

    assert radius(noisy, told) < radius(plain, MANIFEST)
    assert radius(noisy, MANIFEST) <= radius(noisy, told) * (1 + 1e-9)  # also where the manifest does not say so
    lowered = Row(**{**vars(plain), "radius": plain.radius - 0.1})
    assert radius(lowered, MANIFEST) == pytest.approx(radius(plain, MANIFEST) - 0.1, abs=1e-9)
    assert radius(lowered, MANIFEST) <= radius(plain, MANIFEST) - 0.1 + 1e-15


def test_a_sequential_row_spends_the_level_of_its_last_look(tmp_path: Path) -> None:
    file = write(tmp_path / "radii.tsv", [sequential()])
    found = float(restated(read(file), MANIFEST, top_k=2)["radius"][0])
    fixed = write(tmp_path / "fixed.tsv", [voted(0, [600, 250, 100, 50, 0, 0])])
    whole = float(restated(read(fixed), MANIFEST, top_k=2)["radius"][0])
    assert 0 < found < whole


def test_counts_that_are_not_those_of_the_last_look_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "radii.tsv", [sequential()])
    with pytest.raises(ValueError, match="needs the manifest"):
        restated(read(file), None, top_k=2)
    recompute_table(file, tmp_path / "cut.tsv", n=500)
    cut = manifests.read(manifests.manifest_path(tmp_path / "cut.tsv"))
    with pytest.raises(ValueError, match="only the largest are stored"):
        restated(read(tmp_path / "cut.tsv"), cut, top_k=2)
    with pytest.raises(ValueError, match="only the largest are stored"):
        recompute_table(file, tmp_path / "k.tsv", n=500, top_k=2)
    assert not (tmp_path / "k.tsv").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "l0"}, "must be one of l2, l1, linf"),
        ({"top_k": 0}, "at least 1"),
        ({"top_k": 6}, "less than the number of classes, 6"),
        ({"norm": "linf", "dimension": 7}, "have 6 coordinates, --dimension says 7"),
        ({"norm": "l1", "dimension": 6}, "goes with --norm linf alone"),
    ],
)
def test_a_statement_that_the_table_cannot_make_is_refused(path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Statement(**settings).of(read(path), manifest_of(path))


def test_tables_of_older_versions_need_the_dimension(tmp_path: Path) -> None:
    file = write(tmp_path / "radii.tsv", [make_row(0)], {"notes": {}})
    with pytest.raises(ValueError, match="pass --dimension"):
        Statement(norm="linf").of(read(file), manifest_of(file))
    found = Statement(norm="linf", dimension=784).of(read(file), manifest_of(file))
    assert found["radius"][0] * 28 <= read(file)["radius"][0]
    with pytest.raises(ValueError, match="only l2 radii can be stated in l1"):
        restated(found, norm="l1")


def test_recompute_adds_a_checked_column_and_leaves_the_radius(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "k.tsv"
    recompute_table(path, out, top_k=2)
    before, after = read(path), read(out)
    assert after["radius"].tolist() == before["radius"].tolist()
    assert [claim.radius for claim in after["top_k"]] == restated(before, MANIFEST, top_k=2)["radius"].tolist()
    assert manifests.read(manifests.manifest_path(out))["recomputed"][0]["to"] == {"top_k": 2}
    text = out.read_text()
    claim = after["top_k"][0]
    out.write_text(text.replace(f"2:0:{claim.radius!r}", f"2:0:{claim.radius * 1.001!r}"))
    with pytest.raises(ValueError, match="more than the votes prove"):
        read(out)
    out.write_text(text.replace(f"2:0:{claim.radius!r}", f"2:4:{claim.radius!r}"))
    with pytest.raises(ValueError, match="neither the label"):
        read(out)


def test_the_command_shows_norms_and_first_classes_and_writes_json(path: Path) -> None:
    assert "no change of smaller linf norm" in certify("show", str(path), "--norm", "linf")
    assert "among the first 2 classes" in certify("show", str(path), "--top-k", "2", "--radii", "0")
    found = json.loads(certify("show", str(path), "--format", "json", "--radii", "0,0.25"))
    assert [row["radius"] for row in found["summary"]["certified"]] == [0, 0.25]
    assert math.isclose(found["summary"]["mean_radius"], read(path)["radius"][[0, 2]].sum() / 3)


def test_a_table_in_the_repository_is_evidence() -> None:
    found = document(LENET, Statement(top_k=2, norm="linf", dimension=784))
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(encode(found)))
    assert found["summary"]["certified"][0]["count"] >= 491
