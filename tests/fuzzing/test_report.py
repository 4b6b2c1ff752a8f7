"""The report's page shows what hostile files say, everywhere that they can say something, as text and nothing else."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.table_files import PARSERS
from fuzz.watch import watched
from maxup_smoothing.analysis.report.page import build_page
from maxup_smoothing.analysis.report.subjects import load_subjects
from maxup_smoothing.data import registry

RUN = next(parser for parser in PARSERS if parser.name == "run_config").beside()
HOSTILE = (
    "<script>alert(1)</script>", "</style><script src=//evil.example/x.js></script>", "</title><script>x</script>",
    '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", "javascript:alert(1)", "<a href='javascript:x'>x</a>",
    "<svg/onload=alert(1)>", "<iframe src=https://evil.example>", "<!--", "]]>", "&lt;script&gt;", "{{ 7 * 7 }}",
    "{% include '/etc/passwd' %}", "<base href=//evil.example>", "\x00\x1b[31m\x7f", "\u202egnp.exe", "a\nb\r\nc\td",
    "<meta http-equiv=refresh content='0;url=//evil.example'>", "url(https://evil.example/x)",
    "$\\mathdefault{x}$", "$",
)  # fmt: skip
TAGS = {
    "html", "head", "meta", "link", "title", "style", "body", "header", "p", "h1", "h2", "h3", "h4", "nav", "ul", "wbr",
    "li", "a", "main", "section", "b", "dl", "div", "dt", "dd", "table", "caption", "span", "thead", "tr", "th", "td",
    "tbody", "small", "figure", "img", "figcaption", "details", "summary", "pre", "code", "footer",
}  # fmt: skip
VALUES = {  # attributes that are not plain words of the template's own
    "href": re.compile(r"#[a-z-]+|data:,"),
    "src": re.compile(r"data:image/(png|svg\+xml);base64,[A-Za-z0-9+/=]+"),
}


class Harmless(HTMLParser):
    """Fails at whatever could run or load something."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name != "srcdoc"
            if name in VALUES:
                assert VALUES[name].fullmatch(value or ""), (name, value)
            elif name not in ("alt", "aria-label", "data-run", "content"):  # text for people, and our own policy
                assert "evil" not in (value or ""), (name, value)
                assert "script" not in (value or ""), (name, value)
            if tag == "meta" and name == "http-equiv":
                assert value == "Content-Security-Policy"

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data[:100]}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data[:100]}")

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() == "<style>":
            assert "evil" not in data
            assert "url(" not in data


def filled(value: Any, text: str) -> Any:
    """A value with the text in place of every text in it, and as a name of its own."""
    if isinstance(value, dict):
        return {**{name: filled(part, text) for name, part in value.items()}, text: text}
    if isinstance(value, list):
        return [filled(part, text) for part in value]
    return text if isinstance(value, str) else value


def write(folder: Path, text: str, keep: tuple[str, ...] = ()) -> Path:
    """A run folder whose every text is this one; ``keep`` are sections of the manifest that stay."""
    folder.mkdir(parents=True)
    manifest: dict[str, Any] = json.loads(RUN["run/radii.manifest.json"])
    hostile = {name: part if name in keep else filled(part, text) for name, part in manifest.items()}
    hostile |= {"schema": 1, "warnings": [text, {text: text}], "transfer": text}
    hostile["notes"] |= {"preflight": [text], "warnings": text, "command": text}
    (folder / "radii.manifest.json").write_text(json.dumps(hostile))
    quoted = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    config = "".join(f"{name} = {quoted}\n" for name in ("dataset", "arch", "objective"))
    (folder / "config.toml").write_text(f"{config}epochs = 2\nsigma = 0.5\n{quoted} = {quoted}\n", encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps({"command": text, text: [text], "device": text}))
    cell = '"' + text.replace('"', '""') + '"'
    (folder / "train.csv").write_text(f"epoch,seconds,{cell}\n0,1,{cell}\n", encoding="utf-8")
    header, row = RUN["run/radii.tsv"].decode().splitlines()
    column = re.sub(r"[\r\n\t]", " ", text)
    (folder / "radii.tsv").write_text(f"{header}\t{column}\n{row}\t{column}\n", encoding="utf-8")
    return folder / "radii.tsv"


def page(*paths: Path, within: Path) -> str:
    with watched(within, seconds=60):
        html = build_page(load_subjects(paths))
    parser = Harmless()
    parser.feed(html)
    parser.close()
    return html


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-cache"))
    monkeypatch.delenv("DATA_ROOT", raising=False)


def test_hostile_text_everywhere_is_text_on_the_page(tmp_path: Path) -> None:
    paths = [write(tmp_path / str(number), text) for number, text in enumerate(HOSTILE)]
    for start in range(0, len(paths), 11):
        html = page(*paths[start : start + 11], within=tmp_path)
        assert not re.search("<script|<iframe|<svg|<base|<!--", html, re.IGNORECASE)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", html)


def test_hostile_names_of_folders_are_text_on_the_page(tmp_path: Path) -> None:
    names = [name.replace("/", "\u2215").replace("\x00", "") for name in HOSTILE]
    paths = [write(tmp_path / name / "run", "plain", keep=("data",)) for name in names]
    for start in range(0, len(paths), 11):
        page(*paths[start : start + 11], within=tmp_path)


def test_hostile_names_of_classes_are_text_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = registry.load("fashion-sample", "test")
    evil = dataclasses.replace(sample, classes=tuple(HOSTILE[:10]))
    monkeypatch.setattr(registry, "load", lambda *arguments, **more: evil)
    path = write(tmp_path / "run", "plain")
    manifest = json.loads(path.with_name("radii.manifest.json").read_text())
    manifest["data"] = {"name": "fashion-sample", "split": "test", "fingerprint": sample.fingerprint}
    path.with_name("radii.manifest.json").write_text(json.dumps(manifest))
    html = page(path, within=tmp_path)
    assert "&lt;script&gt;alert(1)" in html or "&#34;&gt;&lt;img" in html or "No pictures" not in html


@pytest.mark.filterwarnings("ignore")
def test_any_text_everywhere_makes_a_harmless_page(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    slow = bool(request.config.getoption("--slow"))

    @settings(
        max_examples=300 if slow else 3,
        deadline=None,
        derandomize=not slow,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
    def build(text: str) -> None:
        folder = tmp_path_factory.mktemp("page")
        page(write(folder / "run", text), within=folder)

    build()
