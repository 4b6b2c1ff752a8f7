"""What does an answer with a certificate cost somebody who waits, and does the server hold out many clients?

First one client at a time, without HTTP and over HTTP: one answer of a LeNet on 28x28 pixels, whose class is proved by
one batch of 128 copies, beside the bare forward pass of such a batch. Repetitions are interleaved. Then 64 clients at a
time, with all images, for some seconds; errors are counted. Needs FastAPI and uvicorn.
"""

import http.client
import io
import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import report
from maxup_smoothing.certify.serving.application import Limits, Service
from maxup_smoothing.certify.serving.served import ROWS, Wanted, opened
from maxup_smoothing.certify.serving.server import listening, serve
from maxup_smoothing.data import registry
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture

SIGMA, CLIENTS = 0.25, 64


def png(pixels_HW: NDArray[np.uint8]) -> bytes:
    """An image file."""
    stream = io.BytesIO()
    Image.fromarray(pixels_HW).save(stream, "PNG")
    return stream.getvalue()


def ask(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, dict[str, Any]]:
    """Status and answer of one request."""
    connection.request("POST", "/predict", body, {"content-type": "image/png"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def alone(port: int, service: Service, bodies: Sequence[bytes], repetitions: int) -> dict[str, list[float]]:
    """Milliseconds of one client's answers, of answers without HTTP, and of the bare forward pass, in turn."""
    smoothed = service.served.smoothed
    pixels = [np.asarray(Image.open(io.BytesIO(body)))[None] for body in bodies]
    taken: dict[str, list[float]] = {"answer over HTTP": [], "answer in process": [], "forward pass alone": []}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    batch_BCHW = smoothed.base.empty_batch(service.served.shape).normal_(0.5, SIGMA)
    for number in range(repetitions):
        start = time.perf_counter()
        status, told = ask(connection, bodies[number % len(bodies)])
        assert status == 200, told
        taken["answer over HTTP"].append(1e3 * (time.perf_counter() - start))
        start = time.perf_counter()
        smoothed.answer(pixels[number % len(bodies)])
        taken["answer in process"].append(1e3 * (time.perf_counter() - start))
        start = time.perf_counter()
        smoothed.base.classify(batch_BCHW)
        taken["forward pass alone"].append(1e3 * (time.perf_counter() - start))
    connection.close()
    return taken


def together(port: int, bodies: Sequence[bytes], seconds: float) -> tuple[list[float], Counter[str]]:
    """Milliseconds of the answers of many clients at a time, and what came back how often."""
    taken: list[float] = []
    outcomes: Counter[str] = Counter()
    until = time.monotonic() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < until:
            start = time.perf_counter()
            try:
                status, told = ask(connection, bodies[number % len(bodies)])
                outcome = told["reason"] if status == 200 else f"status {status}"
            except (OSError, http.client.HTTPException, ValueError) as error:
                outcome = f"error {type(error).__name__}"
                connection.close()
            taken.append(1e3 * (time.perf_counter() - start))
            outcomes[outcome] += 1
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken, outcomes


def quantiles(values: Sequence[float]) -> str:
    """Median, 99th percentile and the largest, in milliseconds."""
    return (
        f"p50 {statistics.median(values):8.1f} ms, p99 {np.quantile(values, 0.99):8.1f} ms, most {max(values):8.1f} ms"
    )


def main() -> None:
    """Measure and print."""
    options = report.arguments(__doc__)
    bodies = [png(image) for image in registry.load("fashion-sample", "test").images[:32, 0]]
    with tempfile.TemporaryDirectory() as folder, listening("127.0.0.1", 0) as listener:
        port, path = listener.getsockname()[1], Path(folder, "checkpoint.safetensors")
        architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
        torch.manual_seed(1)
        checkpoint.save(path, architecture.build(), architecture, {"config": {"sigma": SIGMA}})
        service = Service(opened(Wanted(model=str(path), device=torch.device("cpu"))), Limits())
        # A thread takes no signals, so the server ends with this process.
        threading.Thread(target=serve, args=(service, listener), daemon=True).start()
        answers = service.served.smoothed.answers(
            np.stack([np.asarray(Image.open(io.BytesIO(b)))[None] for b in bodies])
        )
        easy = [body for body, answer in zip(bodies, answers, strict=True) if answer.samples == ROWS]
        print(f"{len(easy)} of {len(bodies)} images are proved by one batch of {ROWS}")
        taken = alone(port, service, easy, 40 if options.quick else 400)
        for name, values in taken.items():
            print(f"{name:24}{quantiles(values)}")
        ratios = [a / b for a, b in zip(taken["answer over HTTP"], taken["forward pass alone"], strict=True)]
        print(f"answer over HTTP / forward pass alone, median of ratios: {statistics.median(ratios):.2f}")
        seconds = 5.0 if options.quick else 30.0
        many, outcomes = together(port, bodies, seconds)
        print(f"{CLIENTS} clients, {seconds:g} s:    {quantiles(many)}; {len(many) / seconds:.0f} answers/s")
        print(f"outcomes: {dict(outcomes)}")
        report.finish({"alone": taken, "together": many, "outcomes": dict(outcomes)}, options.json)


if __name__ == "__main__":
    main()
