"""Report pages of stored and made-up runs, parsed."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from places import ROOT

from maxup_smoothing.analysis.report.page import build_page
from maxup_smoothing.analysis.report.subjects import load_subjects
from maxup_smoothing.data import registry

LENET = ROOT / "docs/results/lenet"


HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"


OURS = HEADER.rstrip("\n") + "\tn\tn_a\tp_a_lower\tsigma\talpha\tstatus\n"


VOID = {"meta", "link", "img", "br", "wbr"}


class Page(HTMLParser):
    """The elements of a page, and whether they are nested as they should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        # What only keeps or breaks a line is no joint of the text.
        self.feed(re.sub(r'<wbr>|<span class="name">([^<]*)</span>', r"\1", html))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self._open):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def page_of(*paths: Path, data_root: Path | None = None, control: str | None = None) -> Page:
    return Page(build_page(load_subjects(paths), data_root=data_root, control=control))


def write_run(folder: Path, rows: str, header: str = HEADER, manifest: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "radii.tsv").write_text(header + rows)
    if manifest is not None:
        (folder / "radii.manifest.json").write_text(json.dumps({"schema": 1, **manifest}))
    return folder / "radii.tsv"


def sample_run(folder: Path, change: dict[str, Any] | None = None, radius: float = 0.3) -> Path:
    """A few images of the embedded sample: every fourth one wrong, one abstention."""
    dataset = registry.load("fashion-sample", "test")
    rows = []
    for at in range(24):
        label = int(dataset.labels[at])
        predict = -1 if at == 5 else (label + 1) % 10 if at % 4 == 0 else label
        shown = 0.0 if predict == -1 else radius + at / 100
        rows.append(f"{at}\t{label}\t{predict}\t{shown}\t{int(predict == label)}\t3")
    described = {"name": "fashion-sample", "split": "test", "fingerprint": dataset.fingerprint, **(change or {})}
    manifest = {"data": described, "sampling": {"sigma": 0.5, "n0": 100, "n": 1000, "alpha": 0.001}}
    return write_run(folder, "\n".join(rows) + "\n", manifest=manifest)
