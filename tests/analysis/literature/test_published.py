from pathlib import Path

import numpy as np
import pytest

from maxup_smoothing.analysis.literature.curves import load_published

HEADER = "dataset,arch,method,sigma,subset,images,seeds,n,alpha,acr,0.00,0.50,source\n"
LINE = "mnist,lenet,Gaussian,0.50,skip20,500,1,100000,0.001,1.5,99.20,90.00,here\n"


def test_the_rows_that_come_with_the_package_are_the_published_ones() -> None:
    rows = load_published()
    found = {(row.dataset, row.arch, row.method, row.sigma, row.subset): row for row in rows}
    assert len(found) == len(rows)  # no row twice
    gaussian = found["mnist", "lenet", "Gaussian", 0.5, "full"]
    assert (gaussian.acr, gaussian.seeds, gaussian.images, gaussian.n) == (1.5581, 5, 10_000, 100_000)
    assert gaussian.percent[1.0] == 89.83
    assert found["fashion-mnist", "lenet", "CAT-RS", 1.0, "full"].acr == 1.6068
    assert found["fashion-mnist", "lenet", "Gaussian", 0.5, "skip20"].acr == pytest.approx(1.101269)


def test_each_subset_stands_beside_the_whole_it_is_of() -> None:
    rows = load_published()
    whole = {(row.dataset, row.arch, row.method, row.sigma) for row in rows if row.subset == "full"}
    assert {(row.dataset, row.arch, row.method, row.sigma) for row in rows} == whole
    assert {row.sigma for row in rows} == {0.25, 0.5, 1.0}


def test_no_row_claims_more_than_its_curve_and_ceiling_allow() -> None:
    # ACR is the area under the curve of certified accuracy; each quarter lies between its right and its left height.
    for row in (row for row in load_published() if len(row.percent) > 1):
        radii = sorted(row.percent)
        heights = np.array([row.percent[radius] / 100 for radius in radii])
        ceiling = 3.8115 * row.sigma
        tail = heights[-1] * (ceiling - radii[-1])
        assert 0.25 * heights[1:].sum() <= row.acr <= 0.25 * heights[:-1].sum() + tail + 5e-3 * ceiling


def test_images_are_the_same_only_if_none_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(HEADER + LINE)
    (row,) = load_published(path)
    assert row.same_images(range(0, 10_000, 20))
    assert not row.same_images(range(0, 9_980, 20))
    assert not row.same_images(range(500))


def test_an_empty_accuracy_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(HEADER + LINE.replace("90.00", ""))
    assert load_published(path)[0].percent == {0.0: 99.2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace("seeds,", "") + LINE, "p.csv lacks the columns seeds; add them to its first line"),
        ("", "lacks the columns dataset"),
        (HEADER + LINE.replace("1.5", "x"), "p.csv, line 2: could not convert string to float: 'x'"),
        (HEADER + LINE.replace("mnist", "nist"), "line 2: unknown dataset 'nist'; there are: "),
        (HEADER + LINE + LINE.replace("500,", "400,"), "line 3: skip20 of mnist has 500 images, got 400; correct one"),
        (HEADER + LINE.replace("skip20", "skp20"), "line 2: unknown protocol 'skp20'"),
        (HEADER + LINE.replace("90.00", "99.30"), "must be in \\[0, 100\\] and fall with the radius"),
        (HEADER + LINE.replace("99.20", "101"), "must be in \\[0, 100\\] and fall with the radius"),
        (HEADER + "mnist,lenet\n", "line 2: "),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_published(path)
