"""Runs a user's code: its errors become one line, its changes to the process are undone, and its logits are found."""

# Shapes: B rows of a batch, K classes.

import argparse
import contextlib
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maxup_smoothing.data.runtime.console import lost_accelerator
from maxup_smoothing.data.runtime.memory import OutOfMemory, is_out_of_memory
from maxup_smoothing.data.runtime.signals import WORDS, Stopped

_ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(f"{_ROOT / name}{os.sep}" for name in ("certify", "data", "train", "analysis"))
_TORCH = f"{Path(torch.__file__).parent}{os.sep}"
_INSTALLED = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("purelib", "platlib", "stdlib"))
#: Words in the message of a check that only values in [0, 1] pass; words for what is checked; source of such a check.
_RANGE = re.compile(
    r"\[\s*0[.0]*\s*,\s*1[.0]*\s*\]|\b0[.0]*\s*(<=?|≤|to|and|-|–|\.\.)\s*(\w+\s*(<=?|≤)\s*)?1\b"
    "|out of range|clamp|clip|negative",
    re.IGNORECASE,
)
_PIXELS = re.compile("pixel|image|input|value|clamp|clip", re.IGNORECASE)
_CHECK = re.compile(r"\.(min|max|amin|amax|all|any)\(|<=?\s*1\b|>=?\s*0\b")
_LONGEST = 300  # characters of an error's text that are shown


class ModelError(ValueError):
    """An error of a user's code in one line: type, text, and place. Its ``__cause__`` is the original error."""


@contextlib.contextmanager
def user_code(name: str, *, fewer: bool = True) -> Iterator[None]:
    """Turn any error of a user's code into a ``ModelError``.

    Some errors pass unchanged: signals, out of memory, a lost accelerator, and a ``ValueError`` of this package.

    Args:
        name: The code that is called, for the message, such as "module:factory" or "the model".
        fewer: Whether the caller retries with fewer rows if memory runs out; if not, that becomes a ``ModelError``.

    Raises:
        ModelError: For any other ``Exception`` or ``SystemExit``.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if _passes(error) and (fewer or not is_out_of_memory(error)):
            raise
        raise ModelError(f"{name}: {described(error)}") from error


def described(error: BaseException) -> str:
    """One line with the type, text and place of an error of a user's code, and the fix if it is known."""
    said = str(error)
    if "Traceback of TorchScript" in said:  # its last line is the error itself
        said = said.strip().splitlines()[-1]
    text = " ".join(said.split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
    place = _place(error)
    said = f"{type(error).__name__}{f': {text}' if text else ''}{f' ({place[0]})' if place else ''}"
    if _about_range(error, text, place[1] if place else ""):
        said += "; noisy pixels leave [0, 1], so a model that needs that range must clamp its input itself"
    return said


def _passes(error: BaseException) -> bool:
    if isinstance(error, SystemExit):
        return error.code in WORDS  # SIGTERM, see `data.runtime.signals`
    if isinstance(error, (ModelError, OutOfMemory, Stopped)) or is_out_of_memory(error) or lost_accelerator(error):
        return True
    return isinstance(error, ValueError) and _innermost(error).startswith(_OURS)


def _innermost(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return str(Path(frames[-1].filename).resolve()) if frames else ""


def _place(error: BaseException) -> tuple[str, str] | None:
    """File and line of the innermost frame in a user's code, or else in a library other than torch; and its source."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}:{error.lineno}", ""
    library = None
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = str(Path(frame.filename).resolve())
        if frame.filename.startswith("<") or file.startswith((*_OURS, _TORCH)):
            continue
        found = f"{_shown(file)}:{frame.lineno}", frame.line or ""
        if not file.startswith(_INSTALLED):
            return found
        if "site-packages" in file:
            library = library or found
    return library


def _shown(file: str) -> str:
    """The path, relative to the working directory if it lies inside."""
    path = Path(file).resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _about_range(error: BaseException, text: str, source: str) -> bool:
    """Whether the error probably comes from a check that pixels lie in [0, 1]."""
    if isinstance(error, AssertionError) and _CHECK.search(source):
        return True
    expected = isinstance(error, (AssertionError, ValueError, RuntimeError))
    return expected and bool(_RANGE.search(text) and _PIXELS.search(text))


@contextlib.contextmanager
def undisturbed(name: str) -> Iterator[list[str]]:
    """Undo what a user's code changes in the whole process: working directory, default dtype and device.

    Inside the block, ``sys.argv`` holds only the program's name, and a parser that reads it is refused.

    Args:
        name: The code that is called, for the message.

    Yields:
        A list, which holds one line for each change once the block has ended.

    Raises:
        RuntimeError: If the code inside parses the command line; ``user_code`` turns it into a ``ModelError``.
    """
    notes: list[str] = []
    folder, dtype, device, arguments = Path.cwd(), torch.get_default_dtype(), torch.get_default_device(), sys.argv
    parse_args = argparse.ArgumentParser.parse_args

    def refused(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        if args is None and sys.argv is given:
            raise RuntimeError(
                "it parses the command line, which belongs to certify; parse it under `if __name__ == '__main__':`"
            )
        return parse_args(parser, args, namespace)

    sys.argv = given = arguments[:1]
    argparse.ArgumentParser.parse_args = refused  # type: ignore[method-assign,assignment]
    try:
        yield notes
    finally:
        argparse.ArgumentParser.parse_args = parse_args  # type: ignore[method-assign]
        sys.argv = arguments
        with contextlib.suppress(OSError):
            if (there := Path.cwd()) != folder:
                notes.append(f"{name} changed the working directory to {there}; it was changed back")
        os.chdir(folder)
        if (found := torch.get_default_dtype()) != dtype:
            torch.set_default_dtype(dtype)
            notes.append(f"{name} set the default dtype to {_word(found)}; it was set back to {_word(dtype)}")
        if (place := torch.get_default_device()) != device:
            torch.set_default_device(None if device.type == "cpu" else device)
            notes.append(f"{name} set the default device to {place}; it was set back to {device}")


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def logits_of(output: object, rows: int, num_classes: int | None = None) -> Tensor:
    """The logits in what a model returned.

    A tensor is taken as it is; of a mapping or an object, as transformers return them, the entry ``logits``; of a tuple
    or list, or a mapping without that name, the only tensor of the shape of logits.

    Args:
        output: What the model returned.
        rows: B, the number of images that it got.
        num_classes: K; None where it is not known yet.

    Raises:
        ValueError: If it holds no real tensor of shape (B, K), or several; with the fix.
    """
    found: object = output
    if not isinstance(output, Tensor):
        named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
        parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
        fitting = [part for part in parts if _is_logits(part, rows, num_classes)]
        found = named if named is not None else fitting[0] if len(fitting) == 1 else None
    if isinstance(found, Tensor) and (num_classes is not None or _is_logits(found, rows, None)):
        return found  # whose shape `classify` checks
    shown = (
        f"{tuple(found.shape)}, {str(found.dtype).removeprefix('torch.')}"
        if isinstance(found, Tensor)
        else type(output).__name__
    )
    fix = "" if isinstance(found, Tensor) else "; return the logits alone, or under the name logits"
    raise ValueError(f"the model must return logits of shape (batch, classes), got {shown} for {rows} images{fix}.")


def _is_logits(part: object, rows: int, num_classes: int | None) -> bool:
    if not isinstance(part, Tensor) or part.dim() != 2 or len(part) != rows or part.is_complex():
        return False
    return num_classes is None or part.shape[1] == num_classes
