"""Read the logs that other randomized-smoothing projects publish, whatever their dialect; ``docs/logs.md`` has a table.

Radii never grow by being read, and nothing in a file is executed: no pickle, no eval.
"""

import errno
import os
from pathlib import Path

from certify.logs.arrays import AdaptiveArray, Macer, Rs4a
from certify.logs.columns import DIALECTS as COLUMNS
from certify.logs.columns import Ours
from certify.logs.counts import GenGaussian, VotesByClass
from certify.logs.curve import Curve
from certify.logs.dsrs import DsrsRadii, DsrsSampling
from certify.logs.log import Dialect, Given, Log, Source

__all__ = ["DIALECTS", "LARGEST", "Log", "read_log"]

#: Bytes of the largest file that is read.
LARGEST = 500_000_000

#: All dialects; the first that matches reads the file.
DIALECTS: tuple[Dialect, ...] = (
    Macer(), Rs4a(), AdaptiveArray(), Ours(), GenGaussian(), VotesByClass(), *COLUMNS, DsrsSampling(), DsrsRadii(),
    Curve(),
)  # fmt: skip


def read_log(
    path: str | os.PathLike[str], sigma: float | None = None, n: int | None = None, alpha: float | None = None
) -> Log:
    """Read a log of any dialect, known by its content.

    Args:
        path: A file, or the folder that rs4a writes.
        sigma: Standard deviation of the noise in [0, 1] pixel units, positive, where the file does not tell it.
        n: Estimation samples, in [1, 1e9], where the file does not tell them.
        alpha: One-sided failure probability, in (0, 1), where the file does not tell it.

    Returns:
        The table, with a column for each of sigma, n and alpha that is given; see `certify.logs.log.Log`.

    Raises:
        ValueError: If the dialect is unknown, a row is malformed or contradicts itself, there are no rows, what is
            given contradicts the file, or what radii need is neither in it nor given.
        OSError: If the file cannot be read.
    """
    path, given = Path(path), Given(sigma=sigma, n=n, alpha=alpha)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path} is no file.")
    if not path.is_dir() and (size := path.stat().st_size) > LARGEST:
        raise ValueError(f"{path} has {size} bytes, more than {LARGEST}: split it, or read it with your own script.")
    source = Source(path, b"" if path.is_dir() else path.read_bytes())
    dialect = next((dialect for dialect in DIALECTS if dialect.matches(source)), None)
    if dialect is None and path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if dialect is None:
        found = " ".join(source.header)[:200].encode("unicode_escape").decode()
        raise ValueError(
            f"{path} is no log that is known here: its first line has the columns {found or '(none)'}. Known dialects: "
            f"{', '.join(sorted({dialect.name for dialect in DIALECTS}))}; docs/logs.md says how each is recognised."
        )
    try:
        return dialect.read(source, given)
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from None
