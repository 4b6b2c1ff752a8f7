"""``certify serve`` and strangers: whatever they send gets a sentence, and the server goes on as before."""

import io
import json
import re
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from places import HELPERS
from served_requests import JSON, PNG, Server, png, serving

MODEL = """
import time
from oracles import Pixel

def factory():
    return Pixel().eval()

class Slow(Pixel):
    def forward(self, x_BCHW):
        time.sleep(0.1)
        return super().forward(x_BCHW)

def slow():
    return Slow().eval()
"""
SHAPE = ["--image-shape", "1,2,2", "--sigma", "0.25", "--max-body", "20000"]
DARK = png(np.zeros((2, 2), dtype=np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("hostile")
    (found / "mymodel.py").write_text(MODEL)
    (found / "oracles.py").write_text((HELPERS / "oracles.py").read_text())
    return found


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder, "mymodel:factory", *SHAPE) as found:
        yield found
    assert "Traceback" not in found.logged()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, data: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


BOMB = zlib.compress(bytes(10_000_000), 9)
TEXT_BOMB = chunk(b"zTXt", b"a\0\0" + BOMB)
BODIES: list[tuple[str, bytes, dict[str, str], int]] = [
    ("empty", b"", PNG, 400),
    ("no image", b"hello", PNG, 422),
    ("cut off", png(np.full((2, 2), 7, dtype=np.uint8))[:40], PNG, 422),
    ("dimensions beyond memory", png_of(2**31 - 1, 2**31 - 1, zlib.compress(b"")), PNG, 422),
    ("many pixels", png_of(20_000, 20_000, BOMB), PNG, 422),
    ("more data than pixels", png_of(2, 3, BOMB), PNG, 422),
    ("text that unpacks", png_of(2, 2, zlib.compress(bytes(6)), TEXT_BOMB), PNG, 422),
    ("another size", png(np.zeros((3, 2), dtype=np.uint8)), PNG, 422),
    ("colours", png(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)), PNG, 422),
    ("transparent", png(np.full((2, 2, 4), 9, dtype=np.uint8)), PNG, 422),
    ("16 bits", png(np.full((2, 2), 900, dtype=np.uint16)), PNG, 422),
    ("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n", PNG, 422),
    ("nan", b"[[[NaN, 0.5], [0.5, 0.5]]]", JSON, 400),
    ("infinite", b"[[[1e999, 0.5], [0.5, 0.5]]]", JSON, 400),
    ("no JSON", b"[[[0.5", JSON, 400),
    ("deep", b"[" * 9000, JSON, 400),
    ("ragged", b"[[[0.5, 0.5], [0.5]]]", JSON, 422),
    ("another shape", b"[[[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]]", JSON, 422),
    ("flat", b"[0.5, 0.5, 0.5, 0.5]", JSON, 422),
    ("texts", json.dumps([[["a" * 9000, "b"], ["c", "d"]]]).encode(), JSON, 422),
    ("booleans", b"[[[true, false], [true, true]]]", JSON, 422),
    ("null", b"null", JSON, 422),
    ("huge numbers", b"[[[%s, 1], [1, 1]]]" % (b"9" * 400), JSON, 422),
    ("beyond a byte", b"[[[256, 0], [0, 0]]]", JSON, 422),
    ("negative", b"[[[-1, 0], [0, 0]]]", JSON, 422),
    ("beyond one", b"[[[1.5, 0], [0, 0]]]", JSON, 422),
    ("bytes or floats", b"[[[1, 0], [0, 1]]]", JSON, 422),
    ("another object", b'{"picture": 1}', JSON, 422),
    ("another dtype", b'{"image": [[[0, 0], [0, 0]]], "dtype": "float16"}', JSON, 422),
    ("a name twice", b'{"image": 1, "image": 2}', JSON, 400),
    ("not UTF-8", b"\xff\xfe\xfa", JSON, 400),
    ("a form of the web", b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 415),
    ("a strange type", b"x", {"content-type": "text/plain; charset=\xe9"}, 415),
    ("a form without a boundary", b"x", {"content-type": "multipart/form-data"}, 400),
    ("a form cut off", b"--b\r\n\r\nx", {"content-type": "multipart/form-data; boundary=b"}, 400),
    ("too large", bytes(20_001), PNG, 413),
    ("far too large", bytes(3_000_000), PNG, 413),
]


@pytest.mark.parametrize(("body", "headers", "expected"), [one[1:] for one in BODIES], ids=[one[0] for one in BODIES])
def test_a_hostile_body_gets_a_sentence(server: Server, body: bytes, headers: dict[str, str], expected: int) -> None:
    status, told = server.ask("/predict", body, headers)
    assert status == expected, told
    assert list(told) == ["error"]
    assert re.fullmatch(r"[A-Z8n].{10,600}[.]", told["error"]), told
    assert " at 0x" not in told["error"]
    status, told = server.ask("/predict", DARK, PNG)
    assert (status, told["class"]) == (200, 0)
    assert "Traceback" not in server.logged()


def test_a_body_of_unknown_length_is_cut_at_the_limit(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as stream:
        stream.sendall(
            b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for _ in range(30):
            stream.sendall(b"3e8\r\n" + bytes(1000) + b"\r\n")
        stream.sendall(b"0\r\n\r\n")
        assert stream.recv(1000).startswith(b"HTTP/1.1 413")


def test_who_leaves_in_the_middle_leaves_nothing_behind(server: Server) -> None:
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 900\r\n\r\n"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as stream:
            stream.sendall(head + b"half")
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as stream:
            stream.sendall(head.replace(b"900", b"%d" % len(DARK)) + DARK)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as stream:
        stream.sendall(b"\0\0 no HTTP \r\n\r\n")
        assert stream.recv(1000).startswith(b"HTTP/1.1 400")
    until = time.monotonic() + 30
    while server.metric("certify_in_hand"):
        assert time.monotonic() < until
    assert server.ask("/predict", DARK, PNG)[0] == 200
    assert "Traceback" not in server.logged()


def test_memory_stays_as_it_is_over_hundreds_of_requests(server: Server) -> None:
    large = png(np.zeros((4096, 4), dtype=np.uint8))

    def some(count: int) -> None:
        bodies = [(DARK, PNG), (large, PNG), (b"[[[0.5, 0.25], [0, 1]]]", JSON), (bytes(50_000), PNG)] * count
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda one: server.ask("/predict", *one)[0], bodies))
        assert found == [200, 422, 200, 413] * count

    some(50)
    before = server.memory()
    some(100)
    assert server.memory() - before < 20_000_000


def test_more_requests_than_places_are_told_to_come_back(folder: Path) -> None:
    with serving(folder, "mymodel:slow", *SHAPE, "--max-requests", "2") as server, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: server.ask("/predict?radius=0.45", DARK, PNG), range(8)))
        statuses = sorted(status for status, _ in found)
        assert statuses[:2] == [200, 200]
        assert statuses[-1] == 429
        told = next(told for status, told in found if status == 429)
        assert told["error"] == "2 requests are in hand, the most at a time; try again in a second."
        assert server.ask("/predict", DARK, PNG)[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_when_requests_in_hand_have_their_answers(folder: Path, number: int) -> None:
    with serving(folder, "mymodel:slow", *SHAPE) as server:
        found: list[tuple[int, Any]] = []
        query = "/predict?radius=0.49&deadline_ms=2000"
        threads = [threading.Thread(target=lambda: found.append(server.ask(query, DARK, PNG))) for _ in range(4)]
        for thread in threads:
            thread.start()
        while server.metric("certify_in_hand") < 4:
            time.sleep(0.01)
        server.process.send_signal(number)
        for thread in threads:
            thread.join(30)
        assert server.process.wait(30) == 128 + number
        assert [status for status, _ in found] == [200] * 4
        assert all(told["samples"] > 0 for _, told in found)
        with pytest.raises(ConnectionError):
            server.ask("/healthz")
    assert "stopping: finishing the requests in hand" in server.logged()
    assert "Traceback" not in server.logged()


def test_another_size_is_resized_where_the_server_is_told_to(folder: Path) -> None:
    shape = ["--image-shape", "3,8,8", "--sigma", "0.25", "--num-classes", "2"]
    with serving(folder, "mymodel:factory", *shape, "--resize", "8") as server:
        stream = io.BytesIO()
        Image.new("RGB", (32, 16), (255, 255, 255)).save(stream, "JPEG")
        status, told = server.ask("/predict", stream.getvalue(), {"content-type": "image/jpeg"})
        assert (status, told["class"]) == (200, 1)
        assert "to this image after it was resized and cropped and to every image" in told["guarantee"]
        status, told = server.ask("/predict", png(np.zeros((1, 20_000), dtype=np.uint8)), PNG)
        assert status == 422
        assert "far too long" in told["error"]
