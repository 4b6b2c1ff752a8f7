"""Files that are not logs, recognised by their first bytes, each with the command that makes a log of it."""

import io
import json
import shlex
import zipfile
from pathlib import Path

_PACKED = {
    b"\x1f\x8b": ("gzip", "gzip"),
    b"BZh": ("bzip2", "bzip2"),
    b"\xfd7zXZ\x00": ("xz", "xz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd"),
}
_ROWS = "write its rows as text, tab-separated, under the line `idx label predict radius correct time`"
_OTHERS = {
    b"PAR1": "a Parquet file",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"ARROW1": "an Arrow or Feather file",
    b"FEA1": "a Feather file",
    b"SQLite format 3\x00": "an SQLite database",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook or another Office file",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"%PDF": "a PDF",
    b"\x7fELF": "a program",
}
_TEXT_PICKLES = (b"(lp0\n", b"(dp0\n", b"ccopy_reg\n", b"cpandas", b"cnumpy", b"(i")


def binary_format(path: Path, data: bytes) -> str | None:
    """What a file without lines of text is, and what to do; None if it may be a log.

    Args:
        path: The file, named in the advice.
        data: What is in it.
    """
    shown = shlex.quote(str(path))
    for start, (name, tool) in _PACKED.items():
        if data.startswith(start):
            return f"it is compressed with {name}; unpack it with `{tool} -dc {shown} > LOG.tsv` and read LOG.tsv"
    if (encoding := _wide(data)) is not None:
        return f"it is text in {encoding}; write it in UTF-8 with `iconv -f {encoding} -t UTF-8 {shown} > LOG.tsv`"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return f"it is {_archive(data)}"
    if data[257:262] == b"ustar":
        return f"it is a tar archive; unpack it with `tar -xf {shown}` and name a file in it"
    if (data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05") or data.startswith(_TEXT_PICKLES):
        return (
            "it is a pickle, which could run any program and is not opened here; where you trust it, write it as text: "
            f"`{_pandas(path, 'read_pickle', '')}`"
        )
    what = next((what for start, what in _OTHERS.items() if data.startswith(start)), None)
    if what is None and not data.startswith((b"\x93NUMPY", b"MATLAB")) and _has_no_text(data):
        what = "a binary file"
    return None if what is None else f"it is {what}; {_ROWS}"


def text_format(path: Path, text: str) -> str | None:
    """What a text is that has no rows, and what to do; None if that is not known.

    Args:
        path: The file, named in the advice.
        text: What is in it.
    """
    start = text.lstrip()[:200]
    if start.startswith(("{", "[")):
        lines = text.strip().split("\n", 1)
        if len(lines) > 1 and _is_json(lines[0]):
            return f"it is JSON, one object a line; write it as a table: `{_pandas(path, 'read_json', ', lines=True')}`"
        if start[1:].lstrip()[:1] in ("{", "[", '"', "}", "]"):
            return f"it is JSON; write it as a table: `{_pandas(path, 'read_json', '')}`"
    if start.lower().startswith(("<!doctype", "<html", "<?xml", "<svg")):
        return f"it is a page of HTML or XML; {_ROWS}"
    return None


def _wide(data: bytes) -> str | None:
    """UTF-16 or UTF-32 by its mark, or UTF-16 by the zeros beside its letters."""
    if data.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "UTF-32"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    some = data[:200]
    for first, name in ((0, "UTF-16BE"), (1, "UTF-16LE")):
        zeros, letters = some[first::2], some[1 - first :: 2]
        if len(some) >= 20 and not any(zeros) and all(9 <= letter < 127 for letter in letters):
            return name
    return None


def _archive(data: bytes) -> str:
    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()[:1000]
    except Exception:  # a damaged archive fails in many ways
        names = []
    if names and all(name.endswith(".npy") for name in names):
        shown = ", ".join(name.removesuffix(".npy") for name in names[:6])
        return f"an archive of arrays (.npz) with {shown}; {_ROWS}"
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook; save its sheet as CSV or as tab-separated text"
    if any(name.endswith("data.pkl") for name in names):
        return f"a file of torch.save, which may hold a pickle and is not opened here; {_ROWS}"
    return "a zip archive; unpack it and name a file in it"


def _pandas(path: Path, reader: str, more: str) -> str:
    call = f"pd.DataFrame(pd.{reader}({json.dumps(str(path))}{more}))"
    program = f'import pandas as pd; {call}.to_csv("LOG.tsv", sep="\\t", index=False)'
    return f"python -c {shlex.quote(program)}"


def _is_json(line: str) -> bool:
    try:
        return len(line) < 100_000 and isinstance(json.loads(line), dict | list)
    except (ValueError, RecursionError):
        return False


def _has_no_text(data: bytes) -> bool:
    """Whether the first bytes hold more of what no text has than a stray one."""
    some = data[:1000]
    return sum(byte < 9 or 14 <= byte < 27 for byte in some) > len(some) // 50 + 1
