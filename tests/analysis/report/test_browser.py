"""Pages of `python -m analysis report` in a real browser, headless: what is drawn, what is asked of a network."""

import base64
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from maxup_smoothing.analysis.report.page import build_page
from maxup_smoothing.analysis.report.subjects import load_subjects
from maxup_smoothing.data import registry

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--virtual-time-budget=10000",
)  # fmt: skip
WIDTHS = (1280, 1000, 390)
# The page itself may run no script, so another one holds it in frames of both widths and measures them.
MEASURE = """<!DOCTYPE html><meta charset="utf-8"><body><script>
const page = new TextDecoder().decode(Uint8Array.from(atob("PAGE"), c => c.charCodeAt(0)));
const measured = WIDTHS.map(width => new Promise(done => {
  const frame = document.createElement("iframe");
  frame.style = `border: 0; height: 900px; width: ${width}px`;
  frame.onload = async () => {
    const inner = frame.contentDocument, root = inner.documentElement;
    const images = [...inner.images];
    await Promise.all(images.map(image => image.decode().catch(() => null)));
    const closed = root.scrollWidth;
    inner.querySelectorAll("details").forEach(one => { one.open = true; });
    done({
      width: root.clientWidth, closed: closed, open: root.scrollWidth, images: images.length,
      broken: images.filter(image => !image.naturalWidth || !image.clientWidth).map(image => image.alt),
      requests: frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name),
      margin: inner.defaultView.getComputedStyle(inner.body).marginTop,
    });
  };
  frame.srcdoc = page;
  document.body.append(frame);
}));
Promise.all(measured).then(found => {
  const told = document.createElement("pre");
  told.id = "measured";
  told.textContent = JSON.stringify(found);
  document.body.replaceChildren(told);
});
</script></body>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome, and none is on the path")


def browse(folder: Path, page: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Open a page with a new, empty profile."""
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True, encoding="utf-8")


def sample_run(folder: Path, radius: float) -> Path:
    dataset = registry.load("fashion-sample", "test")
    folder.mkdir(parents=True)
    lines = ["idx\tlabel\tpredict\tradius\tcorrect\ttime\n"]
    for at, label in enumerate(dataset.labels[:40]):
        lines.append(f"{at}\t{label}\t{label}\t{radius * (1 + at / 50)}\t1\t3\n")
    (folder / "radii.tsv").write_text("".join(lines))
    notes = {"command": "certify " + "x" * 300, "preflight": ["y" * 300]}
    data = {"name": "fashion-sample", "split": "test", "fingerprint": dataset.fingerprint}
    (folder / "radii.manifest.json").write_text(json.dumps({"schema": 1, "data": data, "notes": notes}))
    return folder / "radii.tsv"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on the embedded sample, their names as unpleasant as they can be."""
    folder = tmp_path_factory.mktemp("report")
    names = ('"><img src=x onerror=alert(1)> {{7*7}}', "\u05d0\u05d1" + "w" * 180)
    paths = [sample_run(folder / name, radius) for name, radius in zip(names, (0.1, 0.3), strict=True)]
    (folder / "page.html").write_text(build_page(load_subjects(paths)), encoding="utf-8")
    return folder / "page.html"


def test_all_images_are_drawn_nothing_sticks_out_and_nothing_is_asked_for(page: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer.html"
    content = base64.b64encode(page.read_bytes()).decode()
    outer.write_text(MEASURE.replace("PAGE", content).replace("WIDTHS", json.dumps(WIDTHS)), encoding="utf-8")
    done = browse(tmp_path, outer, "--dump-dom")
    told = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert told is not None, done.stderr
    found = json.loads(html.unescape(told[1]))
    assert [one["width"] for one in found] == list(WIDTHS)
    for one in found:
        assert one["images"] > 48
        assert one["broken"] == []
        assert one["requests"] == []
        assert one["closed"] <= one["width"]
        assert one["open"] <= one["width"]
        assert one["margin"] == "0px"  # without the style sheet it is 8


def test_the_page_is_drawn_without_a_complaint(page: Path, tmp_path: Path) -> None:
    shot = tmp_path / "page.png"
    done = browse(tmp_path, page, f"--screenshot={shot}", "--window-size=1280,1600")
    assert "CONSOLE" not in done.stderr
    with Image.open(shot) as picture:
        assert picture.size == (1280, 1600)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert {(255, 255, 255), (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours  # the edges of both runs' cards
