"""Hooks of mkdocs: pages of the site that are written elsewhere, or made from the code."""

import os
import re
from pathlib import Path

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.testing import CliRunner

_ROOT = Path(__file__).parent.parent
#: Pages that lie outside docs/, by their name in the site.
_ELSEWHERE = {
    "index.md": "README.md",
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
_OPTIONS = "    options: {show_root_heading: false, show_root_toc_entry: false, heading_level: 4}"
_PACKAGES = ("maxup_smoothing", "data", "train", "certify", "certify.statistics", "analysis")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    pages = {name: (_ROOT / path).read_text(encoding="utf-8") for name, path in _ELSEWHERE.items()}
    pages |= {"options.md": _options(), "python.md": _python()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=_linked(text, _ELSEWHERE.get(name, f"docs/{name}"))))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files outside docs/ lead to their pages."""
    return markdown if page.file.generated_by else _linked(markdown, f"docs/{page.file.src_uri}")


def _linked(text: str, path: str) -> str:
    """Markdown of a file of the repository, with its links as they are in the site; other files become plain text."""
    here = "" if path in _ELSEWHERE.values() else Path(path).relative_to("docs").parent
    names = {(_ROOT / source).resolve(): name for name, source in _ELSEWHERE.items()}

    def moved(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        if not target or "://" in target or target.startswith("mailto:"):
            return found[0]
        where = (_ROOT / path).parent.joinpath(target).resolve()
        if where in names:
            return f"[{label}]({os.path.relpath(_ROOT / 'docs' / names[where], _ROOT / 'docs' / here)}{anchor})"
        if where.is_relative_to(_ROOT / "docs") and where.is_file():
            return f"[{label}]({os.path.relpath(where, _ROOT / 'docs' / here)}{anchor})"
        return label

    return re.sub(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]*)(#[^)\s]*)?\)", moved, text)


def _options() -> str:
    """What every command says of itself."""
    from maxup_smoothing.analysis.__main__ import app as analysis
    from maxup_smoothing.certify.commands.app import app as certify
    from maxup_smoothing.train.__main__ import app as train

    parts = ["# Options", "What `--help` says, for every command."]
    for name, app in (("certify", certify), ("python -m train", train), ("python -m analysis", analysis)):
        inner = sorted(getattr(typer.main.get_command(app), "commands", {}))
        for words in ([], *([one] for one in inner)):
            told = CliRunner().invoke(
                app, [*words, "--help"], prog_name=name, terminal_width=100, max_content_width=100
            )
            parts += [f"## `{' '.join([name, *words])}`", f"```text\n{told.stdout.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _python() -> str:
    """The public names, each with its docstring."""
    import importlib

    parts, told = ["# Python", "These names are public. Everything else may change at any time."], set[str]()
    for package in _PACKAGES:
        module = importlib.import_module(
            "maxup_smoothing" if package == "maxup_smoothing" else f"maxup_smoothing.{package}"
        )
        parts.append(f"## `{module.__name__}`")
        for name in module.__all__:
            home, _, own = module._HOME[name].partition(":")
            place = f"maxup_smoothing.{home}.{own or name}"
            parts.append(f"### `{name}`")
            parts.append("See above." if place in told else f"::: {place}\n{_OPTIONS}")
            told.add(place)
    return "\n\n".join(parts) + "\n"
