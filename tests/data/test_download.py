"""Downloads, against a server on this machine."""

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from maxup_smoothing.data import download
from maxup_smoothing.data.download import FILES, RemoteFile, fetch

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(HTTPServer):
    """Serves CONTENT as good.bin and slow.bin, half of it as cut.bin, and counts the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []

    def file(self, name: str, sha256: str = SHA256) -> RemoteFile:
        return RemoteFile(url=f"http://127.0.0.1:{self.server_port}/{name}", sha256=sha256)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.requests.append(self.path)
        if self.path == "/missing.bin":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unsized.bin":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/cut.bin" else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def all_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["good.bin", "unsized.bin"])
def test_a_file_with_the_right_hash_is_kept_under_its_name(server: Server, tmp_path: Path, name: str) -> None:
    (path,) = fetch("toy", tmp_path, [server.file(name)])
    assert path == tmp_path / "toy" / name
    assert path.read_bytes() == CONTENT


def test_a_second_call_does_not_use_the_network(server: Server, tmp_path: Path) -> None:
    first = fetch("toy", tmp_path, [server.file("good.bin")])
    assert fetch("toy", tmp_path, [server.file("good.bin")]) == first
    assert server.requests == ["/good.bin"]


def test_a_damaged_file_in_the_cache_is_replaced(server: Server, tmp_path: Path) -> None:
    (path,) = fetch("toy", tmp_path, [server.file("good.bin")])
    path.write_bytes(CONTENT[:-1])
    fetch("toy", tmp_path, [server.file("good.bin")])
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_several_files_come_in_order_and_only_the_missing_ones_are_downloaded(server: Server, tmp_path: Path) -> None:
    fetch("toy", tmp_path, [server.file("b.bin")])
    paths = fetch("toy", tmp_path, [server.file(name) for name in ("a.bin", "b.bin", "c.bin")])
    assert [path.name for path in paths] == ["a.bin", "b.bin", "c.bin"]
    assert server.requests == ["/b.bin", "/a.bin", "/c.bin"]


def test_equal_file_names_of_two_datasets_do_not_meet(server: Server, tmp_path: Path) -> None:
    (one,), (two,) = (fetch(name, tmp_path, [server.file("good.bin")]) for name in ("one", "two"))
    assert one != two


def test_a_wrong_hash_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        OSError, match=r"could not download toy from .*good\.bin into .*hash.* does not match"
    ) as caught:
        fetch("toy", tmp_path, [server.file("good.bin", "0" * 64)])
    assert "pass their folder as --data-root" in str(caught.value)
    assert all_files(tmp_path) == []


def test_a_download_that_breaks_off_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="could not download toy"):
        fetch("toy", tmp_path, [server.file("cut.bin")])
    assert all_files(tmp_path) == []


def test_an_interrupted_download_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(download._Bar, "update", interrupt)  # Ctrl-C after the first chunk was written
    with pytest.raises(KeyboardInterrupt):
        fetch("toy", tmp_path, [server.file("good.bin")])
    assert all_files(tmp_path) == []


def test_a_missing_file_is_reported_with_the_dataset_the_address_and_the_way_out(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match=r"could not download toy from http://127.*missing\.bin into .*404 Client Error"):
        fetch("toy", tmp_path, [server.file("missing.bin")])


def test_an_unreachable_server_is_reported(server: Server, tmp_path: Path) -> None:
    gone = server.file("good.bin")
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match=r"could not download toy from .* --data-root"):
        fetch("toy", tmp_path, [gone])


def test_away_from_a_terminal_one_line_says_what_is_downloaded(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch("toy", tmp_path, [server.file("good.bin")])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip() == f"downloading http://127.0.0.1:{server.server_port}/good.bin"


def test_an_unknown_dataset_has_no_download() -> None:
    with pytest.raises(
        ValueError, match="no download is known for 'toy'; known: mnist, fashion-mnist, cifar10, cifar100"
    ):
        fetch("toy")


def test_every_official_file_has_a_sha256_and_a_name_of_its_own() -> None:
    files = [file for group in FILES.values() for file in group]
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in files)
    assert len({file.sha256 for file in files}) == len({file.url for file in files}) == len(files)
    for name in ("mnist", "fashion-mnist"):
        assert {file.name for file in FILES[name]} == {
            f"{part}-ubyte.gz"
            for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
        }
