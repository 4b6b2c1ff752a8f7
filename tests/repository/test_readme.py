"""The README and the page of commands: short enough, with links that lead somewhere and Python that runs."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from places import ROOT
from torch import nn

from maxup_smoothing.train import GaussianNoise

README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGES = ("data", "train", "certify", "analysis")
PAGES = sorted(path for path in (ROOT, ROOT / "docs") for path in path.glob("*.md"))


def sentences(text: str) -> list[str]:
    """Of prose alone: code, tables and pictures are left out."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines = [line for line in text.splitlines() if not line.startswith(("|", "#", "!"))]
    blocks = re.split(r"\n\s*\n|\n(?=- )", "\n".join(lines))
    return [one for block in blocks for one in re.split(r"(?<=[.:;?!])\s+", " ".join(block.split())) if one]


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 900
    long = [one for one in sentences(README) if len(re.findall(r"[A-Za-z][\w'-]*", re.sub(r"\(\S*\)", "", one))) > 35]
    assert not long


def test_the_readmes_python_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    torch.manual_seed(0)
    head = nn.Linear(48, 10)
    model = nn.Sequential(nn.Flatten(), head)
    images = torch.rand(4, 3, 4, 4)
    given = {
        "batches": [(images, torch.tensor([0, 1, 2, 3]))] * 2,
        "model": model,
        "per_example_loss": lambda logits, y: F.cross_entropy(logits, y, reduction="none"),
        "perturb": GaussianNoise(0.5),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "images": images,
    }
    before = head.weight.detach().clone()
    exec(code.replace("n=10_000", "n=100"), given)
    assert not torch.equal(head.weight, before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_between_pages_is_dead(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target


def test_the_errors_that_troubleshooting_explains_are_those_of_the_code() -> None:
    code = "".join(path.read_text(encoding="utf-8") for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # messages of several lines
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    named = [
        part.strip(" ()") for text in re.findall(r"^\*\*(.+?)\*\*", page, re.MULTILINE) for part in text.split("…")
    ]
    assert len(named) > 20
    assert [part for part in named if part not in code] == []
