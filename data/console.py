"""The manners of every command line here: one clear line for a user's mistake, and progress with the time left."""

import os
import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

USAGE_ERROR = 2
INTERRUPTED = 130


def run(command: Callable[[], object]) -> None:
    """Run ``command``; end the process with one line on stderr, and no traceback, for what a user can mend.

    ``ValueError`` (bad arguments, files or models) and ``OSError`` (missing files, full disks) end with status 2,
    Ctrl-C with status 130. Anything else is a defect of ours and keeps its traceback.
    """
    try:
        command()
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # `certify show FILE | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        print("interrupted; what was finished is on disk", file=sys.stderr)
        sys.exit(INTERRUPTED)


def progress(*columns: ProgressColumn) -> Progress:
    """A progress bar on stderr: description, bar, done/total, ``columns``, time left.

    On a terminal it is redrawn in place and vanishes at the end; into a file or a pipe nothing is drawn, and the
    caller prints lines instead.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
