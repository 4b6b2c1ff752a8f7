"""Read the logs that other randomized-smoothing projects publish, whatever their dialect; ``docs/logs.md`` has a table.

Radii never grow by being read, and nothing in a file is executed: no pickle, no eval.
"""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from maxup_smoothing.certify.logs.arrays import AdaptiveArray, MacerRadii, Rs4a
from maxup_smoothing.certify.logs.counts import GenGaussian, VotesByClass
from maxup_smoothing.certify.logs.curve import CurveLog
from maxup_smoothing.certify.logs.dsrs import DsrsRadii, DsrsSampling
from maxup_smoothing.certify.logs.log import Dialect, Given, Log, missing_columns
from maxup_smoothing.certify.logs.not_logs import binary_format, text_format
from maxup_smoothing.certify.logs.settings import beyond_l2
from maxup_smoothing.certify.logs.source import Source
from maxup_smoothing.certify.logs.tabular import DIALECTS as COLUMNS
from maxup_smoothing.certify.logs.tabular import Ours
from maxup_smoothing.certify.logs.votes import VoteRows, why_no_votes

__all__ = ["DIALECTS", "LARGEST", "Log", "UnknownLogError", "dialect_of", "is_log_folder", "open_source", "read_log"]

#: Bytes of the largest file that is read.
LARGEST = 500_000_000

#: All dialects; the first that matches reads the file.
DIALECTS: tuple[Dialect, ...] = (
    MacerRadii(), Rs4a(), AdaptiveArray(), Ours(), GenGaussian(), VotesByClass(), *COLUMNS, DsrsSampling(), VoteRows(),
    CurveLog(), DsrsRadii(),
)  # fmt: skip


class UnknownLogError(ValueError):
    """The file is of no dialect; the message says what it is, as far as that is known."""


def read_log(
    path: str | os.PathLike[str],
    sigma: float | None = None,
    n: int | None = None,
    alpha: float | None = None,
    norm: str | None = None,
) -> Log:
    """Read a log of any dialect, known by its content.

    Args:
        path: A file, or the folder that rs4a writes.
        sigma: Standard deviation of the noise in [0, 1] pixel units, positive, where the file does not record it.
        n: Estimation samples, in [1, 1e9], where the file does not record them.
        alpha: One-sided failure probability, in (0, 1), where the file does not record it.
        norm: Norm of the radii, l2, l1, linf or another word, where the file does not record it. A folder of arrays
            may have radii in several norms, of which these are read.

    Returns:
        The table, with a column for each of sigma, n, alpha and norm that is given; see `certify.logs.log.Log`. Radii
        that cannot be l2 are noted where no norm is told.

    Raises:
        ValueError: If the dialect is unknown, a row is malformed or contradicts itself, there are no rows, what is
            given contradicts the file, or what radii need is neither in it nor given.
        OSError: If the file cannot be read.
    """
    source = open_source(path)
    given = Given(sigma=sigma, n=n, alpha=alpha, norm=norm)
    dialect = dialect_of(source)
    try:
        log = dialect.read(source, given)
        table = _with_norm(log, given)
    except ValueError as error:
        raise error if str(source.path) in str(error) else ValueError(f"{source.path}: {error}") from None
    doubt = beyond_l2(table) if "radius" in table and log.kind != "curve" else None
    return replace(log, table=table, notes=(*log.notes, *log.audited, *([] if doubt is None else [doubt])))


def open_source(path: str | os.PathLike[str]) -> Source:
    """A file, or a folder of arrays, with what is in it.

    Raises:
        UnknownLogError: If it is no text and no file of arrays, such as a compressed file or a pickle.
        ValueError: If it is not a file, or larger than `LARGEST`.
        OSError: If it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return Source(path, b"")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file.")
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(f"{path} has {size} bytes, more than {LARGEST}: split it, or read it with your own script.")
    data = path.read_bytes()
    if (what := binary_format(path, data)) is not None:
        raise UnknownLogError(f"{path} is no log that is known here: {what}.")
    return Source(path, data)


def dialect_of(source: Source) -> Dialect:
    """The dialect of a log.

    Raises:
        UnknownLogError: If it is of none, with what the file is or lacks.
        IsADirectoryError: If it is a folder that holds no arrays of a log.
        ValueError: If it is a folder that holds only some of the arrays.
    """
    dialect = next((dialect for dialect in DIALECTS if dialect.matches(source)), None)
    if dialect is not None:
        return dialect
    if source.path.is_dir():
        Rs4a.require_complete(source.path)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(source.path))
    what = text_format(source.path, source.text) or why_no_votes(source)
    if what is None:
        found = " ".join(source.header)[:200].encode("unicode_escape").decode()
        empty = "" if source.whole else "the file is empty: "
        what = f"{empty}its first line has the columns {found or '(none)'}"
        known = ", ".join(sorted({dialect.name for dialect in DIALECTS}))
        more = f". Known dialects: {known}; docs/logs.md says how each is recognised"
        what += more if (lacking := missing_columns(source.header)) is None else f": {lacking}"
    raise UnknownLogError(f"{source.path} is no log that is known here: {what}.")


def is_log_folder(path: Path) -> bool:
    """Whether a folder is a log itself, or a part of one: it holds arrays that a dialect reads."""
    return path.is_dir() and Rs4a.is_in(path)


def _with_norm(log: Log, given: Given) -> pd.DataFrame:
    """The log's table with the norm that is given.

    Raises:
        ValueError: If radii were computed here, which are l2, and another norm is given.
    """
    if given.norm is None or "radius" not in log.table:
        return log.table
    if log.kind == "sampling" and given.norm != "l2":
        raise ValueError(f"radii that follow from these votes are l2; leave --norm {given.norm} out.")
    return given.with_norm(log.table)
