"""What pages of `python -m analysis report` say in words: about training, comparisons, settings and pictures."""

from pathlib import Path
from typing import Any

import pytest
from report_pages import LENET, OURS, page_of, sample_run, write_run

from maxup_smoothing.analysis.report import images, overview
from maxup_smoothing.analysis.report.comparisons import pairs
from maxup_smoothing.analysis.report.notices import agreement
from maxup_smoothing.analysis.report.settings import differing
from maxup_smoothing.analysis.report.subjects import ReportRun, load_subjects
from maxup_smoothing.analysis.report.views import difference_views
from maxup_smoothing.data import registry

FASHION = [LENET / "fashion_mnist" / name / "radii.tsv" for name in ("gaussian", "maxup-4", "mean-of-4")]


@pytest.fixture(scope="module")
def lenet() -> list[ReportRun]:
    return load_subjects(FASHION)


def told(manifest: dict[str, Any], folder: Path) -> ReportRun:
    (subject,) = load_subjects([write_run(folder, "0\t1\t1\t0.5\t1\t3\n", manifest=manifest)])
    return subject


def test_every_pair_of_three_runs_is_compared_once_and_those_with_the_control_first(lenet: list[ReportRun]) -> None:
    found, alone = pairs(lenet, "mean-of-4", [0.0, 1.0])
    names = [(pair.subject.name, pair.control.name) for pair in found]
    assert names == [("gaussian", "mean-of-4"), ("maxup-4", "mean-of-4"), ("gaussian", "maxup-4")]
    assert alone == []
    table = found[1].table
    assert table is not None
    assert table.header[3:5] == (("only", "maxup-4"), ("only", "mean-of-4"))


def test_of_four_runs_only_those_with_the_control_are_compared(tmp_path: Path) -> None:
    paths = [sample_run(tmp_path / name, radius=0.3 + at / 10) for at, name in enumerate("abcd")]
    found, _ = pairs(load_subjects(paths), None, [0.0])
    assert [(pair.subject.name, pair.control.name) for pair in found] == [("b", "a"), ("c", "a"), ("d", "a")]


def test_under_a_verdict_stands_what_it_leaves_out(lenet: list[ReportRun]) -> None:
    radii = [0.25 * at for at in range(8)]
    first, second, _ = pairs(lenet, "gaussian", radii)[0]
    cost = (
        "maxup-4 against gaussian: more wrong answers (73 against 54, alone 25 against 6, p = 0.002); fewer "
        "abstentions (7 against 20, alone 3 against 16, p = 0.005); more wrong answers with a certified radius of "
        "1.00 or more (16 against 3, alone 13 against 0, p = 0.002). “Alone”: images on which only one "
        "of the two does so."
    )
    assert first.details == f"No difference is shown at r = 0.00 (-1.2 points) and 0.25 (-0.8 points). {cost}"
    start = (
        "The differences at these radii are from -0.4 to +0.6 points. mean-of-4 against gaussian: no difference shown"
    )
    assert second.details.startswith(start)


def test_all_differences_of_a_page_have_one_scale(lenet: list[ReportRun], monkeypatch: pytest.MonkeyPatch) -> None:
    scales = list[tuple[float, float]]()

    def kept(figure: Any) -> str:
        scales.append(figure.axes[0].get_ylim())
        return "data:,"

    monkeypatch.setattr("maxup_smoothing.analysis.report.views.data_uri", kept)
    difference_views(pairs(lenet, "gaussian", [0.0])[0], lenet)
    assert len(scales) == 3
    assert len(set(scales)) == 1


def test_what_runs_agree_and_differ_in_is_named(lenet: list[ReportRun]) -> None:
    assert agreement(lenet) == (
        "The runs agree in data, images, procedure, sigma, n0, n, alpha, bound, noise source, noise seed, dtype, "
        "device, torch version. They differ in batch size: 64 (gaussian), 128 (maxup-4), 512 (mean-of-4)."
    )


def test_what_not_all_runs_tell_is_no_agreement(tmp_path: Path) -> None:
    rows = "0\t1\t1\t0.5\t1\t3\n"
    a = write_run(tmp_path / "a", rows, manifest={"noise": {"seed": 1}, "classifier": {"dtype": "float32"}})
    b = write_run(tmp_path / "b", rows + "1\t1\t1\t0.5\t1\t3\n", manifest={"noise": {"seed": 2}})
    text = agreement(load_subjects([a, b]))
    assert text.startswith("They differ in images; noise seed: 1 (a), 2 (b). Not all of them tell: data, procedure,")
    assert "dtype" in text


def test_what_differs_is_a_table_without_values_that_only_one_run_records(lenet: list[ReportRun]) -> None:
    table = differing(lenet)
    assert table is not None
    rows = {str(name): values for name, *values in table.rows}
    assert rows["training: m"] == ["1", "4", "4"]
    assert rows["certification: classifier.batch_size"] == ["64", "128", "512"]
    assert not {"training: m_start", "training: seed", "training: command"} & set(rows)
    assert differing(lenet[:1]) is None


def test_the_first_table_says_how_each_was_trained(lenet: list[ReportRun]) -> None:
    rows = {str(name): values for name, *values in overview.glance(lenet).rows}
    assert rows["training objective"] == [
        "loss of one noisy copy (gaussian)",
        "loss of the worst of 4 noisy copies (maxup)",
        "mean loss over 4 noisy copies (mean_of_m)",
    ]
    assert rows["training sigma"] == ["0.5"] * 3
    assert rows["training seed"] == ["0"] * 3
    assert rows["right and at the ceiling"] == ["96 (19.2 %)", "150 (30.0 %)", "94 (18.8 %)"]
    assert rows["wrong and at the ceiling"] == ["0 (0.0 %)", "4 (0.8 %)", "0 (0.0 %)"]
    assert rows["certified on"][:2] == ["2026-11-23"] * 2
    assert rows["ceiling: the largest radius that n samples can prove"] == ["1.905"] * 3


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('objective = "maxup"\nm = 4\nreduction = "topk"\ntop_k = 2', "maxup (2 worst of 4)"),
        ('objective = "consistency"\nm = 2\nworst_of = 8\ngraded = true', "consistency (graded of 8, and 1 more)"),
        ('objective = "macer"\nm = 1600', "macer (m = 1,600)"),
        ('objective = "maxup"\nm = "many"\nreduction = "max"', "maxup"),
        ('objective = "smoothadv"\nm = 4', "smoothadv (m = 4)"),
        ('objective = "stability"\nm = 1', "stability"),
        ("objective = [1]", "[1]"),
        ("m = 4", "not recorded"),
    ],
)
def test_an_objective_that_is_not_simple_is_named_with_its_copies(tmp_path: Path, config: str, words: str) -> None:
    path = write_run(tmp_path / "a", "0\t1\t1\t0.5\t1\t3\n")
    path.with_name("config.toml").write_text(config)
    rows = {str(name): values for name, *values in overview.glance(load_subjects([path])).rows}
    assert rows["training objective"] == [words]


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ("0:10000:20", "every 20th image"),
        ("0:100:2", "every 2nd image"),
        ("0:100:11", "every 11th image"),
        ("5:100:101", "every 101st image from 5 on"),
        ("0:500:1", None),
        ("0:10:2,20:30:2", None),
        (None, None),
    ],
)
def test_protocols_that_skip_are_told_in_words(tmp_path: Path, indices: str | None, words: str | None) -> None:
    assert overview.every(told({"protocol": {"name": "own", "indices": indices}}, tmp_path / "a")) == words


def test_titles_name_what_all_runs_have_in_common(lenet: list[ReportRun], tmp_path: Path) -> None:
    assert overview.title(lenet[1:2]) == "Certified robustness of maxup-4: fashion-mnist, lenet, sigma 0.5"
    other = told({"data": {"name": "mnist"}, "model": {"arch": "lenet"}}, tmp_path / "a")
    assert overview.title([lenet[0], other]) == "Certified robustness of 2 runs: lenet"


def test_noise_of_whole_numbers_is_told_with_its_error_rounded_up(lenet: list[ReportRun], tmp_path: Path) -> None:
    text = overview.noise_note(lenet)
    assert text is not None
    assert "distance from that, at most 8.7e-14, was subtracted" in text
    exact = told({"noise": {"source": "exact", "probability_error": 1.01e-14}}, tmp_path / "exact")
    other = told({"noise": {"source": "torch"}}, tmp_path / "other")
    assert "The noise of exact is whole numbers" in str(overview.noise_note([exact, other]))
    assert "at most 1.1e-14" in str(overview.noise_note([exact]))
    assert overview.noise_note([other]) is None


def test_a_change_of_norm_1_is_told_in_grey_levels_where_pictures_are_known() -> None:
    sample = registry.load("fashion-sample", "test")
    text = "Spread over all 784 pixels it is about 9.1 of 255 grey levels each."
    assert overview.spread_note([sample, "no pictures"]) == text
    assert overview.spread_note(["no pictures"]) is None


def test_pictures_name_their_order_and_ties_and_no_kind_that_is_not_shown(tmp_path: Path) -> None:
    sample = registry.load("fashion-sample", "test")
    found = images.gallery(load_subjects([sample_run(tmp_path / "a")])[0], sample)
    assert [(group.title, group.note) for group in found.groups] == [
        ("Surest mistakes", "All 6 wrong answers, the largest radius first."),
        ("Abstained", "All 1 abstentions, which have no radius, by index."),
        ("Right, with the smallest radius", "9 of 17 right answers, the smallest radius first."),
        ("Right, with the largest radius", "8 of 17 right answers, the largest radius first."),
    ]
    assert not {tile.idx for tile in found.groups[2].tiles} & {tile.idx for tile in found.groups[3].tiles}
    rows = "".join(f"{at}\t{label}\t{label}\t0.5\t1\t3\n" for at, label in enumerate(sample.labels[:40].tolist()))
    tied = images.gallery(load_subjects([write_run(tmp_path / "b", rows)])[0], sample)
    assert [group.title for group in tied.groups] == [
        "Right, with the smallest radius",
        "Right, with the largest radius",
    ]
    assert tied.groups[1].note == (
        "12 of 40 right answers, the largest radius first. 40 of them are tied at radius 0.500, and are in the order "
        "of their index."
    )


def test_mistakes_that_are_tied_at_the_ceiling_are_said_to_be(lenet: list[ReportRun]) -> None:
    mistakes = images.gallery(lenet[1], "no data").groups[0]
    assert "4 of them are tied at radius 1.905, the ceiling" in mistakes.note


def test_without_data_the_hardest_images_are_listed_with_their_answers(lenet: list[ReportRun]) -> None:
    found = images.gallery(lenet[0], "They are elsewhere.")
    assert found.reason == "They are elsewhere."
    mistakes, abstained = (group.table for group in found.groups[:2])
    assert mistakes is not None
    assert abstained is not None
    assert mistakes.header == ("idx", "true class", "answer", "radius")
    assert mistakes.rows[0] == ("4280", "Shirt", "T-shirt/top", "1.353")
    assert abstained.rows[0] == ("760", "Pullover", "abstained", "none")
    assert not any(group.tiles for group in found.groups)


def test_runs_on_different_images_are_not_compared_and_the_page_says_why(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", "0\t1\t1\t0.5\t1\t3\n1\t1\t1\t0.5\t1\t3\n")
    b = write_run(tmp_path / "b", "0\t1\t1\t0.5\t1\t3\n2\t1\t1\t0.5\t1\t3\n")
    page = page_of(a, b)
    assert "not comparable: a has 1 images that b has not" in page.text
    assert "Not compared, since no other run is about the same images: a, b" in page.text
    assert "ACR, +" not in page.text


def test_runs_with_different_settings_are_not_compared_and_the_page_warns(tmp_path: Path) -> None:
    row = "0\t1\t1\t0.5\t1\t3\t{n}\t{n}\t0.9\t0.5\t{alpha}\tcertified\n"
    a = write_run(tmp_path / "a", row.format(n=1000, alpha=0.001), OURS)
    b = write_run(tmp_path / "b", row.format(n=1000, alpha=0.01), OURS)
    page = page_of(a, b)
    told = "certified with different alpha: {}; ACR and radii grow with alpha."
    assert f"Warning , all runs: {told.format('0.001 (a); 0.01 (b)')}" in page.text
    assert f"Not compared: {told.format('0.01 (b); 0.001 (a)')}" in page.text


def test_a_log_without_settings_is_compared_and_the_page_says_what_was_taken_for_equal(tmp_path: Path) -> None:
    rows = [(at, 0.3 + at / 100) for at in range(30)]
    ours = "".join(f"{at}\t1\t1\t{r}\t1\t3\t1000\t990\t0.97\t0.5\t0.001\tcertified\n" for at, r in rows)
    theirs = "".join(f"{at}\t1\t1\t{r + 0.05:.3f}\t1\t3\n" for at, r in rows)
    page = page_of(write_run(tmp_path / "ours", ours, OURS), write_run(tmp_path / "theirs", theirs))
    assert "theirs has the higher ACR" in page.text
    assert "Only one of the two records its sigma, n, alpha; the other was taken to have the same." in page.text
