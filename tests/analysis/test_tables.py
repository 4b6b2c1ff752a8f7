import csv
from pathlib import Path

import pandas as pd
import pytest

from maxup_smoothing.analysis.runs.run import Run, load
from maxup_smoothing.analysis.tables import csv_text, html_text, latex_text, markdown_text
from maxup_smoothing.certify.tables.summary import summarize


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    ours = tmp_path / "ours"
    ours.write_text(
        "idx\tlabel\tpredict\tradius\tcorrect\ttime\tn\talpha\tsigma\n"
        "0\t1\t1\t0.5\t1\t3\t1000\t0.001\t0.25\n"
        "1\t1\t1\t0.25\t1\t3\t1000\t0.001\t0.25\n"
        "2\t1\t-1\t0.0\t0\t3\t1000\t0.001\t0.25\n"
    )
    theirs = tmp_path / "theirs"
    theirs.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t2\t0.5\t0\t3\n")
    return load([ours, theirs], ["a_1, |50 %|", "[b]"])


def test_csv_has_a_line_a_run_and_a_column_a_radius(runs: list[Run]) -> None:
    text = csv_text(runs, [0, 0.25, 0.3])
    assert list(csv.reader(text.splitlines())) == [
        ["run", "images", "sigma", "n", "alpha", "acr", "abstained", "false_at_most", "0.00", "0.25", "0.30"],
        ["a_1, |50 %|", "3", "0.25", "1000", "0.001", "0.250000", "1", "0", "0.666666", "0.666666", "0.333333"],
        ["[b]", "1", "", "", "", "0.000000", "0", "", "0.000000", "0.000000", "0.000000"],
    ]
    assert text.endswith("\n")


def test_markdown_shows_intervals_and_escapes_names(runs: list[Run]) -> None:
    assert markdown_text(runs, [0.5]).splitlines() == [
        "| run | images | sigma | n | alpha | ACR | abstained | 0.50 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        r"| a_1, \|50 %\| | 3 | 0.25 | 1000 | 0.001 | 0.250 | 1 | 0.333 [0.008, 0.906] |",
        "| [b] | 1 | – | – | – | 0.000 | 0 | 0.000 [0.000, 0.976] |",
    ]


def test_csv_counts_the_false_certificates_that_are_likely(runs: list[Run]) -> None:
    table = pd.concat([runs[0].table] * 200)
    line = csv_text([Run("many", table, summarize(table))], [0]).splitlines()[1]
    assert (
        line == "many,600,0.25,1000,0.001,0.250000,200,2,0.666666"
    )  # P(Binomial(600, 0.001) <= 2) = 0.977, <= 1: 0.878


def test_the_bound_for_the_population_takes_the_place_of_the_interval(runs: list[Run]) -> None:
    # One of three images: CP_low is 1 - 0.95^(1/3) = 0.01695; (0.01695 - 0.001) / 0.999 = 0.01597.
    assert markdown_text(runs, [0.5], "population").splitlines()[2:] == [
        r"| a_1, \|50 %\| | 3 | 0.25 | 1000 | 0.001 | 0.250 | 1 | 0.333 (≥ 0.015) |",
        "| [b] | 1 | – | – | – | 0.000 | 0 | 0.000 (≥ –) |",
    ]
    assert latex_text(runs, [0.5], "population").splitlines()[4:6] == [
        r"a\_1, |50 \%| & 3 & 0.25 & 1000 & 0.001 & 0.250 & 1 & 0.333 ($\geq$ 0.015) \\",
        r"{}[b] & 1 & -- & -- & -- & 0.000 & 0 & 0.000 ($\geq$ --) \\",
    ]
    with pytest.raises(ValueError, match="csv has no column for the population bounds; write markdown, latex or html"):
        csv_text(runs, [0.5], "population")


def test_latex_shows_intervals_and_escapes_names(runs: list[Run]) -> None:
    assert latex_text(runs, [0.5]).splitlines() == [
        r"\begin{tabular}{lrrrrrrr}",
        r"\toprule",
        r"run & images & sigma & n & alpha & ACR & abstained & 0.50 \\",
        r"\midrule",
        r"a\_1, |50 \%| & 3 & 0.25 & 1000 & 0.001 & 0.250 & 1 & 0.333 [0.008, 0.906] \\",
        r"{}[b] & 1 & -- & -- & -- & 0.000 & 0 & 0.000 [0.000, 0.976] \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_latex_has_no_special_character_left(runs: list[Run]) -> None:
    run = Run("\\~^&%$#_{}", runs[0].table, runs[0].summary)
    name = latex_text([run], [0.0]).splitlines()[4].split(" & ")[0]
    assert name == r"\textbackslash{}\textasciitilde{}\textasciicircum{}\&\%\$\#\_\{\}"


def test_html_has_headers_and_escapes_names(runs: list[Run]) -> None:
    ours, theirs = runs
    hostile = Run('<script>"&', ours.table, ours.summary)
    lines = html_text([hostile, theirs], [0.5]).splitlines()
    assert lines[1].startswith('<thead><tr><th scope="col">run</th><th scope="col">images</th>')
    assert lines[3].startswith(
        '<tr><th scope="row">&lt;script&gt;&quot;&amp;</th><td>3</td><td>0.25</td><td>1000</td><td>0.001</td>'
    )
    assert lines[3].endswith("<td>0.333 [0.008, 0.906]</td></tr>")
