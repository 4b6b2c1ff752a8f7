"""``certify serve``: a real client over a real port gets answers that are the certificates of their seeds."""

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from served_requests import JSON, PNG, Server, garments, png, serving

from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture

CLASSES = [f"garment {k}" for k in range(10)]
IMAGES = garments(12)
ROWS = 128


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an untrained network, whose class most images have with a margin."""
    folder = tmp_path_factory.mktemp("served") / "run"
    architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
    torch.manual_seed(1)
    metadata: dict[str, Any] = {"config": {"sigma": 0.25, "dataset": "fashion-sample"}, "epoch": 1, "classes": CLASSES}
    folder.mkdir()
    checkpoint.save(folder / "checkpoint.safetensors", architecture.build(), architecture, metadata)
    return folder


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Server]:
    with serving(run.parent, "run") as found:
        yield found


@pytest.fixture(scope="module")
def model(run: Path) -> torch.nn.Module:
    return loading.load(str(run), (1, 28, 28), 10).model


def test_an_answer_has_class_radius_and_what_they_rest_on(server: Server) -> None:
    status, told = server.ask("/predict", png(IMAGES[0]), PNG)
    assert status == 200
    assert told["name"] == CLASSES[told["class"]]
    assert not told["abstains"]
    assert 0 < told["radius"] < 1
    assert (told["alpha"], told["sigma"], told["reason"], told["samples"]) == (0.001, 0.25, "proved", ROWS)
    assert len(told["weights_sha256"]) == 64
    assert told["guarantee"].startswith(f"The smoothed classifier (sigma 0.25) gives class {told['class']}")
    assert told["guarantee"].endswith("wrong with probability at most 0.001.")


def test_classes_are_those_of_predict(server: Server, model: torch.nn.Module) -> None:
    smoothed = SmoothedClassifier(model, 10, 0.25, batch_size=ROWS)
    expected = smoothed.predict(IMAGES[:, None], n=1000)
    found = [server.ask("/predict", png(image), PNG)[1]["class"] for image in IMAGES]
    assert (expected != ABSTAIN).sum() >= 10
    assert [a for a, b in zip(found, expected, strict=True) if None is not a and b != ABSTAIN and a != b] == []


def test_an_answer_is_the_certificate_of_its_seed(server: Server, model: torch.nn.Module) -> None:
    for query in ("", "?radius=0.2", "?radius=0.3&n=2000&alpha=1e-5"):
        status, told = server.ask(f"/predict{query}", png(IMAGES[3]), PNG)
        assert status == 200
        asked = told["asked"]
        again = SmoothedClassifier(model, 10, 0.25, batch_size=ROWS, seed=told["seed"])
        [proved] = again.certify(
            IMAGES[3][None],
            n0=asked["n0"],
            n=asked["n"],
            alpha=asked["alpha"],
            procedure="anytime",
            radii=[asked["radius"]],
            input_ids=[told["input_id"]],
        )
        assert (proved.predict, proved.radius) == (told["class"], told["radius"])
        assert proved.n + asked["n0"] == told["samples"]


def test_each_answer_has_noise_of_its_own(server: Server) -> None:
    seeds = {server.ask("/predict", png(IMAGES[0]), PNG)[1]["seed"] for _ in range(5)}
    assert len(seeds) == 5


def test_arrays_are_answered_as_image_files_are(server: Server) -> None:
    expected = server.ask("/predict", png(IMAGES[1]), PNG)[1]["class"]
    pixels = IMAGES[1][None]
    bodies = [
        pixels.tolist(),
        (pixels / 255).tolist(),
        {"image": pixels.tolist(), "dtype": "uint8"},
        {"image": (pixels / 255).tolist(), "dtype": "float"},
        {"image": pixels.tolist()},
    ]
    for body in bodies:
        status, told = server.ask("/predict", json.dumps(body).encode(), JSON)
        assert (status, told["class"]) == (200, expected)


def test_a_file_may_come_as_jpeg_as_bytes_or_in_a_form(server: Server) -> None:
    content = png(IMAGES[1])
    expected = server.ask("/predict", content, PNG)[1]["class"]
    boundary = "----of-a-form"
    disposition = 'content-disposition: form-data; name="file"; filename="a.png"\r\ncontent-type: image/png\r\n\r\n'
    form = f"--{boundary}\r\n{disposition}".encode() + content + f"\r\n--{boundary}--\r\n".encode()
    for body, kind in (
        (content, "application/octet-stream"),
        (content, "image/jpeg"),  # what a file is, its bytes say
        (form, f"multipart/form-data; boundary={boundary}"),
        (png(IMAGES[1], "BMP"), "image/bmp"),
        (png(np.repeat(IMAGES[1][..., None], 3, axis=2)), "image/png"),  # gray, stored with colours
    ):
        status, told = server.ask("/predict", body, {"content-type": kind})
        assert (status, told["class"]) == (200, expected), kind


def test_requests_that_wait_share_forward_passes(server: Server) -> None:
    names = ("certify_rounds_total", "certify_samples_total")
    before = [server.metric(name) for name in names]
    bodies = [png(IMAGES[number % 12]) for number in range(96)]
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda body: server.ask("/predict", body, PNG), bodies))
    assert {status for status, _ in found} == {200}
    rounds, samples = (server.metric(name) - was for name, was in zip(names, before, strict=True))
    assert rounds < 60
    assert samples == sum(told["samples"] for _, told in found)
    for number in range(12):  # no answer is another request's
        assert len({told["class"] for _, told in found[number::12]} - {None}) <= 1
    assert len({told["seed"] for _, told in found}) == 96


def test_a_deadline_gives_what_is_proved_until_then(server: Server) -> None:
    status, told = server.ask("/predict?deadline_ms=1&radius=0.9", png(IMAGES[0]), PNG)
    assert status == 200
    assert told["reason"] == "deadline"
    assert told["abstains"]
    assert told["guarantee"] == "The smoothed classifier abstains: nothing is claimed of this image."
    assert (told["class"], told["name"], told["radius"]) == (None, None, 0.0)


def test_settings_are_bounded_by_the_servers_own(server: Server) -> None:
    for query, said in (
        ("n=10001", "n was '10001': Input should be less than or equal to 10000."),
        ("n=0", "n was '0'"),
        ("alpha=0.01", "alpha was '0.01'"),
        ("alpha=nan", "alpha was 'nan'"),
        ("alpha=0", "alpha was '0'"),
        ("deadline_ms=5001", "deadline_ms was '5001'"),
        ("radius=-1", "radius was '-1'"),
        ("radius=inf", "radius was 'inf'"),
        ("radius=99", "radii must lie between 0 and"),
        ("n=1", "n = 1 samples cannot certify anything"),
        ("radios=1", "There is no parameter 'radios'"),
        ("n=many", "n was 'many'"),
    ):
        status, told = server.ask(f"/predict?{query}", png(IMAGES[0]), PNG)
        assert status == 422, query
        assert said in told["error"]


def test_noisy_copies_are_an_image(server: Server) -> None:
    status, content = server.ask("/noisy?count=3", png(IMAGES[0]), PNG)
    assert status == 200
    strip = np.asarray(Image.open(io.BytesIO(content))).astype(float)
    assert strip.shape == (28, 84)
    copies = strip.reshape(28, 3, 28)
    difference = (copies[:, 0] - copies[:, 1])[(copies > 0).all(axis=1) & (copies < 255).all(axis=1)]
    assert 20 < difference.std() < 120  # of clipped noise of sigma 64, twice
    assert server.ask("/noisy?count=99", png(IMAGES[0]), PNG)[0] == 422


def test_the_page_loads_nothing_from_elsewhere(server: Server) -> None:
    status, content = server.ask("/")
    assert status == 200
    text = content.decode()
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text.replace("http-equiv", "")
    assert server.ask("/docs")[0] == 404


def test_health_metrics_and_model(server: Server) -> None:
    assert server.ask("/healthz") == (200, {"status": "ok"})
    status, told = server.ask("/model")
    assert (status, told["classes"], told["image_shape"], told["sigma"]) == (200, CLASSES, [1, 28, 28], 0.25)
    server.ask("/nowhere/at/all")
    text = server.ask("/metrics")[1].decode()
    assert 'certify_requests_total{path="/predict",status="200"}' in text
    assert 'certify_requests_total{path="other",status="404"}' in text
    assert 'certify_answers_total{reason="proved"}' in text
    assert 'certify_answer_seconds_bucket{le="+Inf"}' in text
    assert "nowhere" not in text
