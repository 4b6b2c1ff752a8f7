"""A server of ``certify serve`` in a process of its own, and requests to it."""

import http.client
import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from maxup_smoothing.data import registry

pytest.importorskip("fastapi", reason="certify serve needs FastAPI; install 'maxup-smoothing[serve]'")
pytest.importorskip("uvicorn", reason="certify serve needs uvicorn; install 'maxup-smoothing[serve]'")

PNG = {"content-type": "image/png"}
JSON = {"content-type": "application/json"}


class Server:
    """A server that runs."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.process, self.log, self.port = process, log, port

    def ask(
        self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, method: str | None = None
    ) -> tuple[int, Any]:
        """Status and body of a response, which is JSON or bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(content) if is_json else content

    def metric(self, name: str) -> float:
        """A number of /metrics, summed over its labels."""
        text = self.ask("/metrics")[1].decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))

    def memory(self) -> int:
        """Bytes that its process holds in memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024  # type: ignore[index]

    def logged(self) -> str:
        return self.log.read_text()


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Server]:
    """A server on a free port, with its folder as working directory."""
    log = folder / "server.log"
    command = [sys.executable, "-m", "maxup_smoothing.certify", "serve", *arguments, "--port", "0"]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream)
    try:
        until = time.monotonic() + 120
        while (found := re.search(r"on http://[^ ]*:(\d+) \(", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield Server(process, log, int(found[1]))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)


def png(pixels: NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    """An image file of (H, W) or (H, W, 3) pixels."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def garments(count: int) -> NDArray[np.uint8]:
    """Real images, (N, 28, 28)."""
    return np.asarray(registry.load("fashion-sample", "test").images[:count, 0])
