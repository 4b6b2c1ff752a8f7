"""Fuzz parsers with atheris, which looks for inputs that reach new lines of code; see README.md beside this file.

    python -m fuzz npz --runs 10000        one parser
    python -m fuzz --runs 10000            all of them, one process each

Inputs that a parser fails on are kept under runs/fuzz; ``python -m fuzz npz --again FILE`` runs one of them alone.
"""

import argparse
import contextlib
import importlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_KEPT = Path("runs/fuzz")


def main() -> None:
    """Parse the command line, and fuzz."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parsers", nargs="*", metavar="PARSER")
    options.add_argument("--runs", type=int, default=10_000, help="inputs for each parser")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--again", type=Path, help="one input that failed")
    options.add_argument("--within", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.within is not None or chosen.again is not None:
        _fuzz(chosen.parsers[0], chosen.runs, chosen.seed, chosen.again, chosen.within or Path(tempfile.mkdtemp()))
        return
    from fuzz.parsers import PARSERS

    failed = [name for name in chosen.parsers or PARSERS if not _in_process(name, chosen.runs, chosen.seed)]
    if failed:
        sys.exit(f"failing inputs and logs are in {_KEPT}: {', '.join(failed)}")


def _in_process(name: str, runs: int, seed: int) -> bool:
    """Fuzz one parser in a process of its own, since atheris ends the one that it runs in; False if it failed."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-m", "fuzz", name, f"--runs={runs}", f"--seed={seed}"]
        result = subprocess.run([*command, f"--within={folder}"], capture_output=True, check=False)
    done = result.stderr.decode(errors="replace").rpartition("Done ")[2].partition(" runs")[0]
    said = f"{done} inputs" if result.returncode == 0 else f"FAILED with status {result.returncode}"
    print(f"{name:<20} {said:<24} {time.monotonic() - began:6.0f} s", flush=True)
    if result.returncode:
        (_KEPT / f"{name}.log").write_bytes(result.stdout + result.stderr)
    return result.returncode == 0


def _fuzz(name: str, runs: int, seed: int, again: Path | None, folder: Path) -> None:
    """Fuzz one parser within this process; atheris ends it."""
    atheris: Any = importlib.import_module("atheris") if again is None else None
    ours = ["analysis", "certify", "data", "train", "json", "tomllib", "tarfile"]
    with contextlib.nullcontext() if atheris is None else atheris.instrument_imports(include=ours):
        from fuzz.parsers import PARSERS
    from fuzz.parser import attempt
    from fuzz.watch import limited_memory

    if name not in PARSERS:
        raise SystemExit(f"no parser {name!r}; there are: {', '.join(PARSERS)}.")
    parser, scratch, corpus = PARSERS[name], folder / "read", folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(parser.seeds()):
        (corpus / str(number)).write_bytes(content)
        attempt(parser, content, scratch)  # what is imported late is imported before memory is limited
    with limited_memory():
        if again is not None:
            print(f"{attempt(parser, again.read_bytes(), scratch)} of {len(parser.readers)} readers accept it")
            return
        longest = max(4096, *(4 * len(content) for content in parser.seeds()))
        arguments = [f"-runs={runs}", f"-seed={seed}", f"-max_len={longest}", "-timeout=10", "-len_control=0"]
        arguments += [f"-artifact_prefix={_KEPT}/{name}-", str(corpus)]
        atheris.Setup([name, *arguments], lambda data: attempt(parser, data, scratch))
        atheris.Fuzz()


if __name__ == "__main__":
    _KEPT.mkdir(parents=True, exist_ok=True)
    main()
