import json
from pathlib import Path

import pytest
from analysis_call import HEADER, call, without_notes
from scipy.special import ndtri
from written_tables import write_run

from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound

Call = pytest.MonkeyPatch
Said = pytest.CaptureFixture[str]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two methods, two seeds each, as run folders, and PREDICT's log of attacked images."""
    for seed in (0, 1):
        for name, votes in (("old", [300, 600, 800, 900 + seed]), ("new", [300, 700 + seed, 990, 1000])):
            folder = tmp_path / f"{name}-{seed}"
            folder.mkdir()
            write_run(folder / "radii.tsv", votes)
            (folder / "config.toml").write_text(f"seed = {seed}\n")
    for name, predict in (("held", 3), ("broken", 5)):
        log = "idx\tlabel\tpredict\tcorrect\ttime\n" + f"3\t3\t{predict}\t{int(predict == 3)}\t0:00:01\n"
        (tmp_path / f"{name}.tsv").write_text(log)
    return tmp_path


def test_two_networks_are_compared_with_a_verdict(folders: Path, monkeypatch: Call, capsys: Said) -> None:
    out = folders / "d.png"
    arguments = [str(folders / "new-0"), str(folders / "old-0"), "--radii", "0,0.5", "--figure", str(out)]
    assert call(monkeypatch, "compare", *arguments) == 0
    said = capsys.readouterr().out
    assert "4 images, paired" in said
    assert "new-0 has the higher ACR" in said or "No difference in ACR is shown between new-0 and old-0" in said
    assert "This compares two trained networks" in said
    assert out.read_bytes().startswith(b"\x89PNG")


def test_two_methods_are_compared_seed_by_seed(folders: Path, monkeypatch: Call, capsys: Said) -> None:
    arguments = [str(folders / "new-*"), str(folders / "old-*"), "--radii", "0.5", "--labels", "MaxUp, Gaussian"]
    assert call(monkeypatch, "compare", *arguments) == 0
    said = capsys.readouterr().out
    assert said.startswith("A  MaxUp: ACR 0.6")
    assert "compared seed by seed (paired t)" in said
    assert "2 and 2 training seeds" in said
    # Without the seeds of one side nothing says which network belongs to which.
    (folders / "new-1" / "config.toml").unlink()
    assert call(monkeypatch, "compare", *arguments) == 0
    assert "compared as two samples of seeds (Welch's t)" in capsys.readouterr().out


def test_seeds_are_paired_by_their_number_not_by_their_name(folders: Path, monkeypatch: Call, capsys: Said) -> None:
    arguments = ["compare", str(folders / "new-*"), str(folders / "old-*"), "--radii", "0.5"]
    assert call(monkeypatch, *arguments) == 0
    before = capsys.readouterr().out
    (folders / "old-0").rename(folders / "old-2")  # now the last by name
    assert call(monkeypatch, *arguments) == 0
    after = capsys.readouterr().out
    assert before.splitlines()[-2:] == after.splitlines()[-2:]


def test_tables_of_more_images_are_compared_on_those_that_both_have(
    folders: Path, monkeypatch: Call, capsys: Said
) -> None:
    few = folders / "few.tsv"
    few.write_text("\n".join((folders / "old-0" / "radii.tsv").read_text().splitlines()[:3]) + "\n")
    arguments = ["compare", str(folders / "new-0"), str(few), "--radii", "0"]
    assert call(monkeypatch, *arguments) == 2
    assert "about different images" in capsys.readouterr().err
    assert call(monkeypatch, *arguments, "--common") == 0
    assert "2 images, paired" in capsys.readouterr().out
    few.write_text(few.read_text().splitlines()[0] + "\n" + few.read_text().splitlines()[1].replace("0", "9", 1) + "\n")
    assert call(monkeypatch, *arguments, "--common") == 2
    assert "the tables have no image in common" in capsys.readouterr().err


def test_logs_that_tell_no_settings_are_compared_only_where_their_radii_fit_the_same(
    tmp_path: Path, monkeypatch: Call, capsys: Said
) -> None:
    votes = range(100_000, 99_900, -2)
    for sigma in (0.25, 0.5):
        radii = [sigma * ndtri(lower_confidence_bound(n_a, 100_000, 0.001)) for n_a in votes]
        lines = [f"{idx}\t1\t1\t{radius:.3g}\t1\t3\n" for idx, radius in enumerate(radii)]
        (tmp_path / f"log-{sigma}").write_text(HEADER + "".join(lines))
    arguments = ["compare", str(tmp_path / "log-0.25"), str(tmp_path / "log-0.5"), "--radii", "0.5"]
    assert call(monkeypatch, *arguments) == 2
    assert (
        "the radii fit different settings (log-0.25: n = 100000, alpha = 0.001, sigma = 0.25" in capsys.readouterr().err
    )
    assert call(monkeypatch, *arguments, "--different-sigma") == 0
    out, err = capsys.readouterr()
    assert "50 images, paired" in out
    assert "warning: no table tells n, alpha; taken to be equal" in err  # sigma is known to differ


@pytest.mark.parametrize(
    "arguments",
    [
        ["curve", "{tmp}/new-0", "{tmp}/old-0", "--envelope", "--published", "fashion-mnist"],
        ["groups", "{tmp}/new-0", "--by", "class"],
        ["groups", "{tmp}/new-0", "--by", "difficulty", "--reference", "{tmp}/old-0", "--radii", "0,0.5"],
        ["votes", "{tmp}/new-0", "{tmp}/old-0"],
        ["samples", "{tmp}/new-0", "{tmp}/old-0"],
        ["attack-bounds", "{tmp}/new-0", "--attacked", "0.5={tmp}/held.tsv", "--attacked", "2={tmp}/broken.tsv"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_each_view_is_written_as_a_figure(folders: Path, monkeypatch: Call, arguments: list[str]) -> None:
    out = folders / "view.svg"
    assert call(monkeypatch, *(part.format(tmp=folders) for part in arguments), "--out", str(out)) == 0
    assert out.read_bytes().startswith(b"<?xml")


def test_a_table_is_divided(folders: Path, monkeypatch: Call, capsys: Said) -> None:
    arguments = ["table", str(folders / "new-0"), "--radii", "0", "--format", "markdown", "--by"]
    assert call(monkeypatch, *arguments, "difficulty", "--reference", str(folders / "old-0")) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [
        "| not certified by old-0 (1)",
        "| less certified half of old-0 (1)",
        "| more certified half of old-0 (2)",
    ]


def test_a_network_does_not_judge_its_own_difficulty(folders: Path, monkeypatch: Call, capsys: Said) -> None:
    for name in ("new-0", "old-0"):
        manifest = {"schema": 1, "classifier": {"weights_sha256": "ab"}}
        (folders / name / "radii.manifest.json").write_text(json.dumps(manifest))
    arguments = ["--by", "difficulty", "--reference", str(folders / "old-0"), "--out", str(folders / "x.png")]
    assert call(monkeypatch, "groups", str(folders / "new-0"), *arguments) == 2
    assert "is of the same network as" in capsys.readouterr().err


def test_an_attack_that_succeeds_inside_a_radius_is_an_alarm_beside_its_figure(
    folders: Path, monkeypatch: Call, capsys: Said
) -> None:
    out = folders / "s.png"
    arguments = ["attack-bounds", str(folders / "new-0"), "--attacked", f"1={folders}/broken.tsv", "--out", str(out)]
    assert call(monkeypatch, *arguments) == 2
    assert out.is_file()
    said = capsys.readouterr().err
    assert said.startswith("error: ALARM: 1 images were predicted wrongly within their certified radius at epsilon 1 (")
    assert "(idx 3)" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "{tmp}/none", "{tmp}/old-0"], "there is no file or folder {tmp}/none; name a radius table"),
        (["compare", "{tmp}/new-0", "{tmp}/old-*"], "at least two training seeds of each, got 1 and 2"),
        (["compare", "{tmp}/new-0", "{tmp}/new-0"], "is given 2 times"),
        (["compare", "{tmp}/new-0", "{tmp}/old-0", "--labels", "x"], "--labels must be two names, got 1: x"),
        (["compare", "{tmp}/new-*", "{tmp}/old-*", "--figure", "{tmp}/d.png"], "--figure draws the difference of two"),
        (["compare", "{tmp}/new-0", "{tmp}/old-0", "--figure", "{tmp}/new-0/radii.tsv"], "got the suffix '.tsv'"),
        (["curve", "{tmp}/new-0", "--published", "imagenet", "--out", "{tmp}/x.png"], "no published curve of imagenet"),
        (["groups", "{tmp}/new-0", "--by", "size", "--out", "{tmp}/x.png"], "--by must be one of class, difficulty"),
        (["groups", "{tmp}/new-0", "--by", "difficulty", "--out", "{tmp}/x.png"], "goes with --by difficulty"),
        (["table", "{tmp}/new-0", "{tmp}/old-0", "--by", "class"], "--by divides one run, got 2"),
        (["votes", "{tmp}/log", "--out", "{tmp}/x.png"], "log: the table has no column counts"),
        (["attack-bounds", "{tmp}/new-0", "--attacked", "x", "--out", "{tmp}/x.png"], "--attacked must be EPS=FILE"),
        (
            ["attack-bounds", "{tmp}/new-0", "--attacked", "1=", "--out", "{tmp}/x.png"],
            "must name a file and each EPS once",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    folders: Path, monkeypatch: Call, capsys: Said, arguments: list[str], message: str
) -> None:
    (folders / "log").write_text(HEADER + "0\t1\t1\t0.5\t1\t3\n")
    before = sorted(folders.rglob("*"))
    assert call(monkeypatch, *(part.format(tmp=folders) for part in arguments)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(without_notes(said.err)) == 1
    assert message.format(tmp=folders) in said.err
    assert sorted(folders.rglob("*")) == before


def test_a_log_is_imported_as_a_table_that_shows_the_same(tmp_path: Path, monkeypatch: Call, capsys: Said) -> None:
    log, out = tmp_path / "log", tmp_path / "radii.tsv"
    # A running count in `correct`, seconds as a number, and an alpha that only its owner knows.
    log.write_text(HEADER + "0\t1\t1\t0.512\t1\t3.5\n1\t1\t1\t0.25\t2\t3.5\n2\t1\t0\t0.3\t2\t4\n")
    arguments = ["import", str(log), "--sigma", "0.5", "--alpha", "0.01", "--n", "1000", "--out", str(out)]
    assert call(monkeypatch, *arguments) == 0
    said = capsys.readouterr()
    assert said.out.startswith("cohen, radii, 3 rows\n")
    assert "ACR             0.2540 at sigma=0.5, n=1000, alpha=0.01" in said.out
    assert said.err.startswith("note: log: ")
    assert "running count" in said.err
    lines = out.read_text().splitlines()
    assert lines[0] == "idx\tlabel\tpredict\tradius\tcorrect\ttime\tsigma\talpha\tn"
    assert lines[2] == "1\t1\t1\t0.25\t1\t0:00:03.500000\t0.5\t0.01\t1000"
    assert call(monkeypatch, "table", str(out), "--radii", "0.25") == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(",3,0.5,1000,0.01,0.254000,0,0,0.666666")


def test_notes_of_a_reader_reach_whoever_draws_its_log(tmp_path: Path, monkeypatch: Call, capsys: Said) -> None:
    log = tmp_path / "log"
    log.write_text(HEADER + "0\t1\t1\t0.512\t1\t3\n1\t1\t1\t0.25\t2\t3\n")
    assert call(monkeypatch, "curve", str(log), "--out", str(tmp_path / "c.png")) == 0
    assert "note: log: " in capsys.readouterr().err


def test_what_has_no_radii_is_described_but_not_written(folders: Path, monkeypatch: Call, capsys: Said) -> None:
    log = str(folders / "held.tsv")
    assert call(monkeypatch, "import", log) == 0
    assert capsys.readouterr().out == "predict, predictions, 1 rows\n"
    assert call(monkeypatch, "import", log, "--out", str(folders / "x.tsv")) == 2
    assert "without radii of images" in capsys.readouterr().err
    assert not (folders / "x.tsv").exists()


def test_a_radius_rounded_above_the_ceiling_is_lowered_to_it_and_a_larger_one_refused(
    tmp_path: Path, monkeypatch: Call, capsys: Said
) -> None:
    log, out = tmp_path / "log", tmp_path / "radii.tsv"
    # 100,000 votes at alpha = 0.001 and sigma = 0.5 certify at most 1.9057.
    arguments = ["import", str(log), "--sigma", "0.5", "--alpha", "0.001", "--n", "100000", "--out", str(out)]
    log.write_text(HEADER + "0\t1\t1\t1.91\t1\t3\n1\t1\t1\t1.25\t1\t3\n")
    assert call(monkeypatch, *arguments) == 0
    assert (
        "note: log: 1 radii above what so many votes can certify, by rounding, were lowered" in capsys.readouterr().err
    )
    assert call(monkeypatch, "table", str(out), "--radii", "1.9,1.906") == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(",0.500000,0.000000")
    out.unlink()
    log.write_text(HEADER + "0\t1\t1\t1.95\t1\t3\n1\t1\t1\t1.25\t1\t3\n")
    assert call(monkeypatch, *arguments) == 2
    assert "the largest radius, 1.95, is above 1.9057, the most that n = 100000 votes" in capsys.readouterr().err
    assert not out.exists()


def test_a_log_is_not_overwritten_by_its_own_import(folders: Path, monkeypatch: Call, capsys: Said) -> None:
    log = folders / "log"
    log.write_text("# no table\n" + HEADER)
    before = log.read_text()
    assert call(monkeypatch, "import", str(log), "--out", str(log)) == 2
    assert "is the log itself, which would be overwritten" in capsys.readouterr().err
    assert log.read_text() == before


@pytest.mark.parametrize(
    ("former", "present"), [("sandwich", "attack-bounds"), ("experiments", "search-log"), ("parts", "groups")]
)
def test_the_former_name_of_a_command_is_refused_with_its_present_one(
    monkeypatch: Call, capsys: Said, former: str, present: str
) -> None:
    assert call(monkeypatch, former, "FILE") == 2
    assert capsys.readouterr().err == f"error: `analysis {former}` is now called `analysis {present}`; use that name.\n"
