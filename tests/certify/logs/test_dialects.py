"""Rows true to the format of each tab-separated dialect; where its own quirk is, and what may not be made of it."""

from pathlib import Path

import numpy as np
import pytest

from maxup_smoothing.certify.logs.log import Log
from maxup_smoothing.certify.logs.reader import read_log

SIX = "idx\tlabel\tpredict\tradius\tcorrect\ttime"


def log_of(tmp_path: Path, *lines: str) -> Log:
    path = tmp_path / "log"
    path.write_text("\n".join([*lines, ""]))
    return read_log(path)


def values(log: Log, *names: str) -> list[list[object]]:
    return log.table[list(names)].values.tolist()


def noted(log: Log, words: str) -> bool:
    return any(words in note for note in log.notes)


def test_a_running_count_is_no_correctness(tmp_path: Path) -> None:
    rows = ["0\t3\t3\t0.5\t1\t0:00:01", "1\t3\t2\t0.7\t1\t0:00:01", "2\t3\t3\t0.2\t2\t0:00:01"]
    log = log_of(tmp_path, SIX, *rows, "3\t3\t-1\t0.0\t2\t0:00:01")
    assert log.dialect == "cohen"
    assert log.table["correct"].tolist() == [1, 0, 1, 0]
    assert noted(log, "correct was a running count: recomputed as predict == label")


def test_neither_a_count_nor_a_flag_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 3: correct is 1, but predict is 2"):
        log_of(tmp_path, SIX, "0\t3\t3\t0.5\t1\t1", "1\t3\t2\t0.7\t1\t1", "2\t3\t3\t0.2\t1\t1")


def test_sampled_images_keep_their_original_index(tmp_path: Path) -> None:
    rows = ["713\t3\t3\t0.5\t1\t0:00:01", "20\t3\t-2\t0.0\t1\t0:00:00", "5\t8\t8\t0.25\t2\t0:00:01"]
    log = log_of(tmp_path, SIX.replace("idx", "original_idx"), *rows)
    assert log.dialect == "original-idx"
    assert values(log, "idx", "predict", "correct") == [[713, 3, 1], [20, -1, 0], [5, 8, 1]]
    assert noted(log, "running count")
    assert noted(log, "1 rows have predict -2")


def test_sigma_by_image_is_kept_and_said(tmp_path: Path) -> None:
    header = SIX.replace("time", "sigma\ttime")
    log = log_of(tmp_path, header, "0\t3\t3\t0.5\t1\t0.31\t0:00:01", "1\t3\t3\t0.6\t1\t0.47\t0:00:01")
    assert (log.dialect, log.table["sigma"].tolist()) == ("ddrs", [0.31, 0.47])
    assert list(log.table) == [*SIX.split("\t"), "sigma"]
    assert noted(log, "sigma was chosen for each image")
    assert not noted(log, "the tail fits")


def test_an_ellipsoid_gives_its_inner_ball(tmp_path: Path) -> None:
    header = "idx\tlabel\tpredict\tradius\tradius_proxy\tcorrect\tmin_sigma\ttime"
    log = log_of(tmp_path, header, "0\t3\t3\t0.5\t1.7\t1\t0.2\t0:00:01")
    assert (log.dialect, log.table["radius"].tolist()) == ("ancer", [0.5])
    assert noted(log, "radius_proxy is a volume, not a radius")


ADAPTIVE = "idx\tlabel\tpredict\tradius proved\tcorrect\tlevels_needed\testimated_pr\ttime"


def test_a_flag_is_no_radius(tmp_path: Path) -> None:
    rows = ["0\t3\t3\t1\t1\t0\t0.99\t0:00:01", "1\t3\t-1\t-1\t0\t2\t0.6\t0:00:02", "2\t3\t5\t1\t0\t0\t0.9\t0:00:01"]
    log = log_of(tmp_path, ADAPTIVE, *rows)
    assert (log.dialect, log.kind) == ("ensembles-adaptive", "predictions")
    assert "radius" not in log.table
    assert values(log, "predict", "correct", "proved") == [[3, 1, "1"], [-1, 0, "-1"], [5, 0, "1"]]
    assert noted(log, "is a flag, not a radius")
    for bad in ("3\t3\t-1\t0.5\t0\t0\t0.9\t0:00:01", "3\t3\t3\t-1\t1\t0\t0.9\t0:00:01"):
        with pytest.raises(ValueError, match="idx 3: `radius proved` must be 1, or -1"):
            log_of(tmp_path, ADAPTIVE, *rows, bad)


def test_an_array_of_text_reads_as_the_text_does(tmp_path: Path) -> None:
    row = ["0", "3", "3", "1", "1", "0", "0.99", "0:00:01"]
    np.save(tmp_path / "log.npy", np.array([row, ["7", *row[1:]]]))
    log = read_log(tmp_path / "log.npy")
    assert (log.kind, log.table["idx"].tolist()) == ("predictions", [0, 7])
    np.save(tmp_path / "other.npy", np.zeros((3, 8)))
    with pytest.raises(ValueError, match="expected rs4a's preds"):
        read_log(tmp_path / "other.npy")


def test_columns_after_the_time_stay(tmp_path: Path) -> None:
    header = f"{SIX}\tearly_stopping_ratio\tadditional_batches\testimated_pr"
    log = log_of(tmp_path, header, "0\t3\t3\t0.5\t1\t0:00:01\t0.98\t3\t0.91")
    assert log.dialect == "ensembles-k-consensus"
    assert values(log, "radius", "early_stopping_ratio") == [[0.5, "0.98"]]


def test_samples_that_chose_the_class_are_no_n(tmp_path: Path) -> None:
    header = "idx\tlabel\tpredict\tpA\tsamplesize\tradius\tcorrect\ttime_forward"
    rows = ["0\t3\t3\t0.953\t20000\t0.419\t1\t2.131", "1\t3\t-1\t0.312\t0\t0.000\t0\t0.110"]
    tail = ["===Certification Summary(absolute)===", "image number=2, total time=3", "ACR: 0.2"]
    log = log_of(tmp_path, header, *rows, *tail)
    assert (log.dialect, log.table["time"].tolist()) == ("iss", [2.131, 0.11])
    assert values(log, "predict", "radius") == [[3, 0.419], [-1, 0]]
    assert {"n", "p_a_lower"}.isdisjoint(log.table)
    assert noted(log, "counts the samples that chose the class")


def test_tabs_with_spaces_and_a_norm_in_the_name(tmp_path: Path) -> None:
    header = " \t ".join(["idx", "label", "predict", "l2_radius", "prob_lb", "correct", "time"])
    log = log_of(tmp_path, header, " \t ".join(["0", "3", "3", "0.512", "0.98", "1", "0:00:01.5"]))
    assert (log.dialect, values(log, "radius", "prob_lb")) == ("ars", [[0.512, "0.98"]])
    with pytest.raises(ValueError, match="linf_radius"):  # radii in another norm are not known here
        log_of(tmp_path, header.replace("l2_", "linf_"), "0\t3\t3\t0.512\t0.98\t1\t0:00:01.5")


def test_a_cascade_may_reject(tmp_path: Path) -> None:
    header = "idx\tlabel\tpredict\tradius\tr_neg\tcorrect\tpred_uc\tcorr_uc\tstage\ttime"
    rows = ["0\t3\t3\t0.5\t-1e+02\t1\t3\t1\t0\t0:00:01", "1\t3\t-2\t0.0\t-1e+02\t0\t3\t1\t2\t0:00:01"]
    log = log_of(tmp_path, header, *rows)
    assert (log.dialect, log.table["predict"].tolist()) == ("multiscale", [3, -1])
    assert noted(log, "cascade")


def test_class_names_become_numbers(tmp_path: Path) -> None:
    header = "idx\tcorrect\tradius\tlabel\tpredict"
    rows = ["0\tTrue\t0.120\tdog\tdog", "1\tFalse\t0.200\tcat\tdog", "2\tFalse\t0.000\tcat\t-1"]
    log = log_of(tmp_path, header, *rows)
    assert log.dialect == "vision-api"
    assert values(log, "label", "predict", "radius", "correct") == [[0, 0, 0.12, 1], [1, 0, 0.2, 0], [1, -1, 0, 0]]
    assert list(log.table) == SIX.split("\t")
    assert log.table["time"].isna().all()
    assert noted(log, "times are not told")


def test_no_time_is_nan(tmp_path: Path) -> None:
    log = log_of(tmp_path, SIX.removesuffix("\ttime"), "0\t3\t3\t0.5\t1")
    assert (log.dialect, log.table["time"].isna().tolist()) == ("densepure", [True])


def test_shares_of_the_votes_that_chose_are_no_bounds(tmp_path: Path) -> None:
    header = "idx\tlabel\tp1\tp2\tc1\tc2\tcorrect\ttime"
    log = log_of(tmp_path, header, "0\t3\t3\t5\t0.91234\t0.05\t1\t0:00:01", "1\t3\t5\t3\t0.5\t0.4\t0\t0:00:01")
    assert (log.dialect, log.kind) == ("smooth-prediction", "predictions")
    assert values(log, "predict", "p2", "c1", "correct") == [[3, "5", "0.91234", 1], [5, "3", "0.5", 0]]
    assert {"radius", "p_a_lower"}.isdisjoint(log.table)


@pytest.mark.parametrize("extra", ["", "\tbasePredict"])
def test_predict_logs(tmp_path: Path, extra: str) -> None:
    base = "\t2" if extra else ""
    header = f"idx\tlabel\tpredict{extra}\tcorrect\ttime"
    log = log_of(tmp_path, header, f"0\t3\t3{base}\t1\t0:00:03\r", f"1\t3\t-1{base}\t0\t0:00:03\r")
    assert (log.dialect, log.kind) == ("predict", "predictions")
    assert values(log, "predict", "correct", "time") == [[3, 1, 3], [-1, 0, 3]]
    assert "radius" not in log.table


def test_an_abstention_with_a_radius_is_refused_in_every_dialect(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 2: an abstention must have radius 0"):
        log_of(tmp_path, "idx\tcorrect\tradius\tlabel\tpredict", "0\tFalse\t0.120\t3\t-1")


def test_a_curve_must_fall(tmp_path: Path) -> None:
    log = log_of(tmp_path, "0.00000\t0.98610", "0.00500\t0.98590")
    assert (log.kind, values(log, "radius", "accuracy")) == ("curve", [[0, 0.9861], [0.005, 0.9859]])
    for second in ("0.00500\t0.99", "0.00000\t0.5", "0.00500\tnan", "0.00500\t1e9"):
        with pytest.raises(ValueError, match="line 2: "):
            log_of(tmp_path, "0.00000\t0.98610", second)
    with pytest.raises(ValueError, match="line 1: "):
        log_of(tmp_path, "0.00000\t98.610")
