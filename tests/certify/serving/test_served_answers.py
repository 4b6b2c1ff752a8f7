"""``certify serve``: a real client over a real port gets answers that are the certificates of their seeds."""

import io
import json
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Pixel
from PIL import Image
from places import HELPERS
from served_requests import JSON, PNG, Server, garments, png, serving
from typer.testing import CliRunner

from maxup_smoothing.certify.commands.app import app
from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.serving import server as server_module
from maxup_smoothing.certify.serving.counters import Counters
from maxup_smoothing.certify.serving.desk import Desk, Failed
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
    assert (told["alpha"], told["sigma"], told["reason"]) == (0.001, 0.25, "proved")
    assert told["samples"] >= ROWS
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


def test_requests_that_wait_share_rounds_of_forward_passes() -> None:
    smoothed, counters = SmoothedClassifier(Pixel().eval(), 2, 0.25, batch_size=ROWS), Counters()
    desk, dark = Desk(smoothed, counters), np.zeros((1, 2, 2), dtype=np.uint8)
    sampling = smoothed.anytime_sampling(radius=0.0, n0=28, n=1000, alpha=0.001)
    with smoothed._serving:  # as long as another thread computes
        waiting = [desk.ask(dark, sampling, time.monotonic(), 60.0) for _ in range(8)]
        waiting.append(desk.ask(dark, sampling, time.monotonic(), 60.0))
        assert waiting.pop().cancel()
    answers = [one.result(60) for one in waiting]
    desk.close()
    assert {(answer.predict, answer.reason) for answer in answers} == {(0, "proved")}
    assert "certify_rounds_total 2\n" in counters.text(0)


def test_a_network_that_fails_is_told_and_the_next_answer_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(Pixel):
        broken = False

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            if Failing.broken:
                raise RuntimeError("no such\nlayer")
            return super().forward(x_BCHW)

    smoothed, dark = SmoothedClassifier(Failing().eval(), 2, 0.25, batch_size=ROWS), np.zeros((1, 2, 2), dtype=np.uint8)
    smoothed.answer(dark)
    desk = Desk(smoothed, Counters())
    sampling = smoothed.anytime_sampling(radius=0.0, n0=28, n=1000, alpha=0.001)
    Failing.broken = True
    with pytest.raises(Failed, match="no such"):
        desk.ask(dark, sampling, time.monotonic(), 60.0).result(60)
    assert "no such" in str(desk.failure)
    assert capsys.readouterr().err.count("\n") == 1
    Failing.broken = False
    assert desk.ask(dark, sampling, time.monotonic(), 60.0).result(60).predict == 0
    assert str(desk.failure) == "None"
    desk.close()


def test_many_requests_at_a_time_get_their_own_answers(server: Server) -> None:
    before = server.metric("certify_samples_total")
    bodies = [png(IMAGES[number % 12]) for number in range(96)]
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda body: server.ask("/predict", body, PNG), bodies))
    assert {status for status, _ in found} == {200}
    assert server.metric("certify_samples_total") - before == sum(told["samples"] for _, told in found)
    for number in range(12):  # no answer is another request's
        assert len({told["class"] for _, told in found[number::12]} - {None}) <= 1
    assert len({told["seed"] for _, told in found}) == 96


def test_a_deadline_gives_what_is_proved_until_then(server: Server) -> None:
    status, told = server.ask("/predict?deadline_ms=1&radius=0.5", png(IMAGES[0]), PNG)
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mymodel:factory"], "mymodel:factory does not say what images it takes; pass --image-shape C,H,W."),
        (["mymodel:factory", "--image-shape", "1,2"], "--image-shape must be three sizes, such as 3,32,32"),
        (["mymodel:factory", "--image-shape", "1,2,2"], "does not say what noise it was trained with; pass --sigma."),
        (["mymodel:nothing", "--image-shape", "1,2,2", "--sigma", "1"], "nothing"),
        (["nowhere.safetensors"], "no checkpoint at nowhere.safetensors"),
        (["run", "--classes", "names.txt"], "names.txt must have a line with a name for each of 10 classes"),
        (["run", "--classes", "absent.txt"], "absent.txt"),
        (["run", "--resize", "14"], "--resize must be at least the network's 28 pixels, got 14."),
        (["run", "--image-shape", "3,28,28"], "takes 1x28x28 images"),
        (["run", "--num-classes", "7"], "has 10 classes, the data set 7"),
        (["run", "--alpha", "2"], "alpha must be in (0, 1), got 2.0."),
        (["run", "--n", "3"], "n = 3 samples cannot certify anything"),
        (["run", "--radius", "50"], "radii must lie between 0 and"),
        (["run", "--sigma", "64"], "sigma = 64 looks like 0-255 units"),
        (["run", "--host", "203.0.113.7"], "cannot listen on 203.0.113.7 port 0"),
        (["run", "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (
            ["weights.pth", "--arch", "lenet", "--image-shape", "1,28,28", "--num-classes", "10", "--sigma", "1"],
            "--norm",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_sentence(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "run")
    Path("mymodel.py").write_text((HELPERS / "oracles.py").read_text())
    Path("names.txt").write_text("a\nb\n")
    architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
    torch.save(architecture.build().get_submodule("backbone").state_dict(), "weights.pth")
    with pytest.raises((ValueError, OSError), match=re.escape(said)):
        CliRunner().invoke(app, ["serve", "--port", "0", *arguments], catch_exceptions=False)


def test_a_port_that_is_taken_is_refused_before_the_model_is_loaded() -> None:
    with server_module.listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert server_module.url(listener) == f"http://127.0.0.1:{port}"
        assert server_module.is_local(listener)
        with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1 port {port} .*choose another with --host"):
            CliRunner().invoke(app, ["serve", "absent", "--port", str(port)], catch_exceptions=False)
    with server_module.listening("0.0.0.0", 0) as listener:
        assert not server_module.is_local(listener)
