"""Logs from which radii must be computed, and logs of arrays."""

import json
import pickle
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from places import REFERENCE, SHARED
from scipy import io, stats

from maxup_smoothing.certify.logs.reader import read_log
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.radius import certified_radius

LOGS = SHARED / "reference-logs" / "logs"
EXCERPTS = REFERENCE / "logs"
COUNTS = "idx\tlabel\tpredict\tcount\texact_radius\tcorrect\ttime"

needs_logs = pytest.mark.skipif(not LOGS.exists(), reason="the reference logs beside the repository are not here")


def reference_logs() -> Iterator[tuple[tuple[str, str], list[list[str]]]]:
    rows = [line.split("\t") for line in (REFERENCE / "counts-to-radius.tsv").read_text().splitlines()[1:]]
    for key, group in groupby(rows, key=lambda row: (row[0], row[1])):
        yield key, [row[2:] for row in group]


def test_all_6000_published_radii_follow_from_their_votes(tmp_path: Path) -> None:
    total = 0
    for (sigma, _), rows in reference_logs():
        path = tmp_path / "log"
        path.write_text("\n".join([COUNTS, *("\t".join([*row, "1"]) for row in rows), ""]))
        log = read_log(path, float(sigma), 100_000, 0.001)
        printed = read_log(path).table
        assert (log.dialect, log.kind) == ("gengaussian", "sampling")
        radius = log.table["radius"].to_numpy()
        assert [f"{value:.5g}" for value in radius] == [f"{value:.5g}" for value in printed["radius"]]
        assert (radius <= printed["radius"]).all()  # never above what is printed
        assert (radius <= certified_radius(log.table["p_a_lower"].to_numpy(), float(sigma))).all()
        total += len(rows)
    assert total == 6000


def test_printed_radii_that_do_not_follow_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(f"{COUNTS}\n0\t3\t3\t99997\t0.43812\t1\t1\n")
    assert read_log(path, 0.12, 100_000, 0.001).table["radius"].tolist() == pytest.approx([0.43812], abs=5e-6)
    for settings in ((0.11, 100_000, 0.001), (0.12, 100_000, 0.0001), (0.12, 200_000, 0.001)):
        with pytest.raises(ValueError, match=r"idx 0: exact_radius 0\.43812 is above"):
            read_log(path, *settings)
    with pytest.raises(ValueError, match="99997 votes are more than n=1000"):
        read_log(path, 0.12, 1000, 0.001)
    with pytest.raises(ValueError, match="import --n"):
        read_log(path, sigma=0.12, alpha=0.001)


@needs_logs
def test_votes_under_noise_that_is_not_gaussian_give_no_l2_radius() -> None:
    log = read_log(LOGS / "gengaussian-counts-cifar10-0.50", 0.5, 100_000, 0.001)
    assert (log.kind, len(log.table), log.table["n_a"][0]) == ("sampling", 500, 93944)
    assert "radius" not in log.table
    assert any("the noise was not Gaussian" in note for note in log.notes)


def test_votes_tell_whether_the_noise_was_gaussian(tmp_path: Path) -> None:
    excerpt = EXCERPTS / "gengaussian-counts"
    assert "radius" not in read_log(excerpt, 0.5, 100_000, 0.001).table
    for missing in ("sigma", "n", "alpha"):
        known = {"sigma": 0.5, "n": 100_000, "alpha": 0.001}
        del known[missing]
        with pytest.raises(ValueError, match=f"import --{missing}"):
            read_log(excerpt, **known)  # type: ignore[arg-type]
    lower = float(lower_confidence_bound(93944, 100_000, 0.001))
    rows = [f"0\t3\t3\t93944\t{0.5 / np.sqrt(2 * (1 - lower)):.5}\t1\t1", "1\t3\t5\t40000\t0.0\t0\t1"]
    path = tmp_path / "log"
    path.write_text(
        "\n".join([excerpt.read_text().split("\n")[0].replace("generalized_gaussian_bound_over_c\t", ""), *rows])
    )
    table = read_log(path, 0.5, 100_000, 0.001).table
    assert table["radius"].tolist() == [float(certified_radius(lower, 0.5)), 0.0]
    assert table["predict"].tolist() == [3, -1]  # votes below a half certify nothing


def write_votes(folder: Path, estimation: str, selection: str | None = None, arguments: object = None) -> Path:
    path = folder / "certify_cifar10_0.5_N_1000_alpha_0.001.txt"
    path.write_text("idx\tlabel\tcounts\n" + estimation)
    if selection is not None:
        (folder / "certify_cifar10_0.5_N0_100_alpha_0.001.txt").write_text("idx\tlabel\tcounts\n" + selection)
    if arguments is not None:
        (folder / "certify_args.json").write_text(json.dumps(arguments))
    return path


def test_selection_chooses_and_estimation_certifies(tmp_path: Path) -> None:
    told = {"sigma": 0.5, "N": 1000, "N0": 100, "alpha": 0.001, "dataset": "cifar10"}
    path = write_votes(tmp_path, "0\t1\t[10, 990]\n20\t0\t[600, 400]\n", "0\t1\t[1, 99]\n20\t0\t[49, 51]\n", told)
    log = read_log(path)
    assert (log.dialect, log.kind) == ("bridging-the-gap", "sampling")
    lower = lower_confidence_bound(990, 1000, 0.001)
    assert log.table["radius"].tolist() == [certified_radius(lower, 0.5), 0.0]  # the second was chosen by 51 of 100
    columns = ["idx", "label", "predict", "correct", "n0", "n", "n_a", "sigma", "alpha"]
    assert log.table[columns].values.tolist() == [[0, 1, 1, 1, 100, 1000, 990, 0.5, 0.001],
                                                  [20, 0, -1, 0, 100, 1000, 400, 0.5, 0.001]]  # fmt: skip
    with pytest.raises(ValueError, match="holds the selection's votes"):
        read_log(tmp_path / "certify_cifar10_0.5_N0_100_alpha_0.001.txt")


def test_votes_that_choose_and_certify_share_alpha(tmp_path: Path) -> None:
    path = write_votes(tmp_path, "0\t1\t[10, 990]\n")
    with pytest.raises(ValueError, match="import --sigma"):
        read_log(path)
    table = read_log(path, sigma=0.5, alpha=0.001).table
    assert table["alpha"].tolist() == [0.0005]
    assert table["radius"].tolist() == [certified_radius(lower_confidence_bound(990, 1000, 0.0005), 0.5)]
    renamed = path.rename(tmp_path / "log")  # its own votes must not pass for a selection
    assert read_log(renamed, sigma=0.5, alpha=0.001).table["alpha"].tolist() == [0.0005]


@pytest.mark.parametrize("votes", ["__import__('os')", "[1, -1]", "[[1], 2]", "[1e3, 2]", f"[{10**12}, 1]", "[0, 0]"])
def test_votes_are_a_list_of_counts_and_no_program(tmp_path: Path, votes: str) -> None:
    with pytest.raises(ValueError, match="line 2: "):
        read_log(write_votes(tmp_path, f"0\t1\t{votes}\n"), sigma=0.5, alpha=0.001)


@pytest.mark.parametrize(
    "path", [EXCERPTS / "dsrs-sampling.txt", LOGS / "dsrs-sampling-mnist-0.50.txt"], ids=lambda path: path.name
)
def test_dsrs_limits_are_the_clopper_pearson_limits_they_claim(path: Path) -> None:
    if not path.exists():
        pytest.skip("the reference logs beside the repository are not here")
    table = read_log(path).table
    rows = [line.split() for line in path.read_text().splitlines() if line.startswith("o ")]
    low, high = (np.array([float(row[side]) for row in rows]) for side in (2, 3))
    n, k = 50_000, table["n_a"].to_numpy()
    assert (table["n"] == n).all()
    assert low == pytest.approx(lower_confidence_bound(k, n, 0.00025), rel=1e-9)
    assert high == pytest.approx(upper_confidence_bound(k, n, 0.00025), rel=1e-9)
    assert low == pytest.approx(np.where(k > 0, stats.beta.ppf(0.00025, k, n - k + 1), 0), rel=1e-9)
    assert (table["p_a_lower"] <= low).all()
    assert ((table["radius"] > 0) == (low > 0.5)).all()
    assert (table["correct"] == (low > 0.5)).all()
    assert (table["alpha"] == 0.00025).all()


def test_dsrs_of_other_noise_or_other_limits(tmp_path: Path) -> None:
    path = tmp_path / "log"
    text = "\nx disttype gaussian\nx k None\nx std 0.5\nx N 1000\nx alpha 0.001\n\no 0 0.9 0.95\n"
    path.write_text(text)
    log = read_log(path)
    assert "n_a" not in log.table
    assert any("no number of n=1000 votes gives" in note for note in log.notes)
    assert log.table["radius"].tolist() == [certified_radius(0.9, 0.5)]
    path.write_text(text.replace("disttype gaussian", "disttype general-gaussian"))
    with pytest.raises(ValueError, match="sampled from general-gaussian noise"):
        read_log(path)
    path.write_text(text.replace("x std 0.5\n", ""))
    with pytest.raises(ValueError, match="import --sigma"):
        read_log(path)
    for row in ("o 1 0.9 0.8", "o 1 1 1", "o 0 0.5 0.6", "x N 5", "o 1 nan 1"):
        path.write_text(text + row + "\n")
        with pytest.raises(ValueError, match=r"line 9: (expected|low must be a number in \[0, 1\))"):
            read_log(path)


@pytest.mark.parametrize("tail", ["", " 0.0 0.0", " 0.0 0.0 1.5"])
def test_dsrs_radii(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "log"
    path.write_text(f"0 1.7903{tail}\n10 0.0{tail}\n")
    log = read_log(path)
    assert (log.dialect, log.kind) == ("dsrs-radii", "radii")
    assert log.table[["idx", "predict", "radius", "correct"]].values.tolist() == [[0, 0, 1.7903, 1], [10, -1, 0, 0]]
    path.write_text(f"0 1.7903{tail}\n10 -1{tail}\n")
    with pytest.raises(ValueError, match="line 2: "):
        read_log(path)


def test_macer_has_minus_one_where_it_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for compressed in (False, True):
        arrays = {"hard": np.array([0.5, -1, 0.0]), "soft": np.array([0.6, -1, 0.1])}
        io.savemat(str(path), arrays, appendmat=False, do_compression=compressed)
        log = read_log(path, sigma=0.25)
        assert (log.dialect, log.kind) == ("macer", "radii")
        assert log.table[["predict", "radius", "correct"]].values.tolist() == [[0, 0.5, 1], [-1, 0, 0], [0, 0, 1]]
        assert any("position in the file" in note for note in log.notes)
    for bad in (np.array([-0.5]), np.array([np.nan]), np.array([np.inf]), np.array(["a"]), np.array([])):
        io.savemat(str(path), {"hard": bad}, appendmat=False)
        with pytest.raises(ValueError, match="log"):
            read_log(path)


def write_rs4a(folder: Path, **changed: object) -> Path:
    arrays = {"preds": np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]]), "labels": np.array([1.0, 1.0, 0.0]),
              "prob_lb": np.array([0.9, 0.7, 0.4]), "radius_l2": np.array([0.64, 0.26, -0.1])} | changed  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.asarray(array))
    return folder


def test_rs4a_keeps_wrong_radii_and_abstains_below_a_half(tmp_path: Path) -> None:
    write_rs4a(tmp_path)
    for path in (tmp_path, tmp_path / "radius_l2.npy"):
        log = read_log(path)
        expected = [[1, 1, 0.64, 1], [1, 0, 0.26, 0], [0, -1, 0, 0]]
        assert log.table[["label", "predict", "radius", "correct"]].values.tolist() == expected
        assert (log.table["p_a_lower"] < [0.9, 0.7, 0.4]).all()
        assert any("alpha is two-sided" in note for note in log.notes)


@pytest.mark.parametrize(
    "changed",
    [
        {"radius_l2": [0.1, np.inf, 0]},
        {"radius_l2": [0.1, -0.2, 0]},
        {"radius_l2": [0.1, np.nan, 0]},
        {"radius_l2": [0.1]},
        {"labels": [0.5, 1, 1]},
        {"labels": [1e300, 1, 1]},
        {"prob_lb": [1.0, 0.7, 0.4]},
        {"prob_lb": [np.nan, 0.7, 0.4]},
    ],
)
def test_impossible_arrays_are_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        read_log(write_rs4a(tmp_path, **changed))


def test_no_pickle_is_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    write_rs4a(tmp_path)
    np.save(tmp_path / "preds.npy", np.array([[Trap()]], dtype=object))
    (tmp_path / "plain").write_bytes(pickle.dumps(Trap()))
    for name in ("preds.npy", "plain"):
        with pytest.raises(ValueError, match=r"cannot be read as an array|no log that is known"):
            read_log(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_header_that_claims_a_huge_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(100))
    path.write_bytes(path.read_bytes().replace(b"(100,), }        ", b"(99999999999,), }"))
    with pytest.raises(ValueError, match="claims the shape"):
        read_log(path)
