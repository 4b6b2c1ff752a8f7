"""Named evaluation protocols."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxup_smoothing.data.subset import Protocol, protocol, representative, spread


def test_cohen_et_al_certify_500_images_of_either_test_set() -> None:
    cifar10 = protocol("cohen-cifar10").indices(10_000)
    assert (len(cifar10), cifar10[0], cifar10[1], cifar10[-1]) == (500, 0, 20, 9_980)
    imagenet = protocol("cohen-imagenet").indices(50_000)
    assert (len(imagenet), imagenet[0], imagenet[1], imagenet[-1]) == (500, 0, 100, 49_900)


def test_aliases_are_the_protocols_they_stand_for() -> None:
    assert protocol("cohen-cifar10") == protocol("skip20") == Protocol(name="skip20", step=20)
    assert protocol("cohen-imagenet") == protocol("skip100")


def test_macer_certifies_images_500_to_999() -> None:
    np.testing.assert_array_equal(protocol("macer-500-999").indices(10_000), np.arange(500, 1000))


@given(st.integers(1, 2000))
def test_full_is_every_image(num_images: int) -> None:
    np.testing.assert_array_equal(protocol("full").indices(num_images), np.arange(num_images))


@given(st.integers(1, 300), st.integers(1, 2000))
def test_skip_n_is_every_index_divisible_by_n(number: int, num_images: int) -> None:
    expected = [index for index in range(num_images) if index % number == 0]
    np.testing.assert_array_equal(protocol(f"skip{number}").indices(num_images), expected)


@given(st.integers(1, 300), st.integers(300, 2000))
def test_first_n_is_the_first_n(number: int, num_images: int) -> None:
    np.testing.assert_array_equal(protocol(f"first{number}").indices(num_images), np.arange(number))


@given(st.sampled_from(["full", "skip1", "skip7", "skip2000", "first10", "macer-500-999"]), st.integers(1000, 1500))
def test_the_recorded_slice_selects_the_same_images(name: str, num_images: int) -> None:
    chosen = protocol(name)
    indices = chosen.indices(num_images)
    start, stop, step = map(int, chosen.slice(num_images).split(":"))
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(indices, np.arange(num_images)[start:stop:step])
    assert chosen.name == name


def test_the_slice_spells_out_its_end() -> None:
    assert protocol("skip20").slice(10_000) == "0:10000:20"
    assert protocol("macer-500-999").slice(10_000) == "500:1000:1"


@pytest.mark.parametrize(
    ("name", "num_images", "match"),
    [
        ("first500", 200, "first500 needs 500 images, the split has 200"),
        ("macer-500-999", 600, "macer-500-999 needs 1000 images, the split has 600"),
        ("full", 0, "full selects nothing: it starts at 0, the split has 0 images"),
        ("skip20", 0, "skip20 selects nothing"),
    ],
)
def test_a_protocol_that_does_not_fit_the_split_is_refused(name: str, num_images: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        protocol(name).indices(num_images)
    with pytest.raises(ValueError, match=match):
        protocol(name).slice(num_images)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("ful", r"unknown protocol 'ful'; did you mean full\? Valid: full, skipN"),
        ("skip", r"did you mean skip"),
        ("skip-20", r"did you mean skip20\?"),
        ("skip0", "N a whole number from 1"),
        ("skip020", "no leading zeros"),
        ("skip２０", "unknown protocol"),  # full-width digits, which int() would take
        ("first-5", "unknown protocol"),
        ("macer", r"did you mean macer-500-999\?"),
        ("10-20", r"unknown protocol '10-20'; .*Valid: full"),
        ("", "unknown protocol ''"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_and_all_forms(name: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        protocol(name)


@given(st.integers(1, 500), st.data())
def test_spread_indices_are_as_many_as_asked_each_once_and_evenly_apart(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    found = spread(total, count)
    assert len(set(found.tolist())) == len(found) == count
    gaps = np.diff([*found.tolist(), total]) if count else np.array([0])
    assert gaps.max() - gaps.min() <= 1


ORDERS = {
    "cycles": lambda classes, each: np.tile(np.arange(classes), each),
    "cycles of two": lambda classes, each: np.tile(np.repeat(np.arange(classes), 2), each)[: classes * each],
    "sorted": lambda classes, each: np.repeat(np.arange(classes), each),
    "backwards": lambda classes, each: np.repeat(np.arange(classes)[::-1], each),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize(
    ("classes", "each", "count"), [(10, 20, 20), (10, 20, 40), (10, 20, 100), (2, 50, 10), (3, 40, 12)]
)
def test_a_representative_choice_has_every_class_in_any_order(order: Any, classes: int, each: int, count: int) -> None:
    labels = order(classes, each)
    found = representative(labels, count)
    assert len(set(found.tolist())) == count
    assert (np.diff(found) > 0).all()
    share = count / classes
    assert (abs(np.bincount(labels[found], minlength=classes) - share) <= 1 + share / 2).all()


def test_a_choice_among_images_in_cycles_has_equal_shares_and_as_many_classes_as_it_can() -> None:
    labels = np.tile(np.arange(10), 20)
    assert np.bincount(labels[representative(labels, 20)]).tolist() == [2] * 10
    assert len(set(labels[representative(labels, 5)].tolist())) == 5
    assert len(representative(labels, 0)) == 0
    assert representative(labels, 200).tolist() == list(range(200))
    assert np.bincount(labels[representative(labels, 190, leave=True)]).tolist() == [19] * 10


def test_images_in_a_usual_order_are_chosen_evenly_as_ever() -> None:
    for seed in range(200):
        labels = np.random.default_rng(seed).integers(0, 10, 6000)
        for count in (200, 500, 1000):
            assert representative(labels, count).tolist() == spread(6000, count).tolist()


def test_a_rare_class_is_not_chosen_whole() -> None:
    labels = np.zeros(100, dtype=np.int64)
    labels[[0, 10, 20]] = 1, 2, 3  # which even spacing would choose
    assert labels[representative(labels, 10)].tolist() == [1, 2, 3, *[0] * 7]
    assert labels[representative(labels, 10, leave=True)].tolist() == [0] * 10
    assert len(representative(labels, 98, leave=True)) == 98  # which takes some class whole
