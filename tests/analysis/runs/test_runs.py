from pathlib import Path

import pytest

from maxup_smoothing.analysis.runs.run import different_images, load, names

SIX = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"


def write_log(path: Path, indices: range = range(3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SIX + "".join(f"{idx}\t1\t1\t0.5\t1\t3\n" for idx in indices))
    return path


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/r/gaussian/radii.tsv", "/r/maxup/radii.tsv"], ["gaussian", "maxup"]),
        (["/r/cifar/noise_0.25", "/r/cifar/noise_0.50.tsv"], ["noise_0.25", "noise_0.50"]),
        (["/r/a/x/radii.tsv", "/r/b/x/radii.tsv", "/r/y/radii.tsv"], ["a/x", "b/x", "y"]),
        (["/1/a/x.tsv", "/2/a/x.tsv"], ["1/a/x", "2/a/x"]),
        (["/a/x.tsv", "/a/x.txt"], ["/a/x.tsv", "/a/x.txt"]),
        (["/x/radii.tsv", "/y/x/radii.tsv"], ["x", "y/x"]),
        (["/radii.tsv"], ["radii.tsv"]),
    ],
)
def test_names_are_as_short_as_they_can_be_and_differ(paths: list[str], expected: list[str]) -> None:
    assert names(paths) == expected


def test_a_table_in_the_working_directory_is_called_as_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gaussian").mkdir()
    monkeypatch.chdir(tmp_path / "gaussian")
    assert names(["radii.tsv"]) == ["gaussian"]


def test_a_file_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"radii\.tsv is given 2 times"):
        names(["/r/a/radii.tsv", "/r/a/../a/radii.tsv"])


def test_labels_replace_names_and_must_fit(tmp_path: Path) -> None:
    paths = [write_log(tmp_path / "a"), write_log(tmp_path / "b")]
    assert [run.name for run in load(paths, ["A", "B"])] == ["A", "B"]
    for labels in (["A"], ["A", "A"]):
        with pytest.raises(ValueError, match="labels must be 2 different names"):
            load(paths, labels)


def test_a_table_without_rows_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty: the table has no rows"):
        load([write_log(tmp_path / "empty", range(0))])


def test_runs_over_other_images_are_told_apart(tmp_path: Path) -> None:
    same = [write_log(tmp_path / "a"), write_log(tmp_path / "b")]
    assert different_images(load(same)) is None
    other = write_log(tmp_path / "c", range(1, 5))
    assert different_images(load([*same, other])) == (
        "a has 1 images that c has not, and 2 are missing the other way round"
    )
    more = write_log(tmp_path / "d", range(5))
    assert different_images(load([same[0], more])) is not None
    assert different_images(load([more, same[0]])) is not None
