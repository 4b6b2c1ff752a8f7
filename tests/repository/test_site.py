"""The manual as a site, as `make docs` builds it: no warning, no dead link, nothing from the network."""

import os
import re
import subprocess
import sys
from pathlib import Path

from places import ROOT


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_the_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    loaded = re.compile(
        r"<(?:script|img|iframe|source)\b[^>]*\bsrc=.?(?:https?:)?//|<link\b[^>]*stylesheet[^>]*href=.?(?:https?:)?//"
    )
    assert [page.name for page in pages if loaded.search(page.read_text(encoding="utf-8"))] == []
    text = (tmp_path / "site" / "options.html").read_text(encoding="utf-8")
    assert "certify recompute" in text
    assert "SmoothedClassifier" in (tmp_path / "site" / "python.html").read_text(encoding="utf-8")
