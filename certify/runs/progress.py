"""What a run tells on stderr: what it will do, how far it is, and what was strange."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from maxup_smoothing.certify.tables.durable import DurableTable
from maxup_smoothing.certify.tables.prediction_table import PredictionRow
from maxup_smoothing.certify.tables.row import INVALID, Row
from maxup_smoothing.data.runtime import console

if TYPE_CHECKING:  # which imports this module
    from maxup_smoothing.certify.runs.session import Session


def meter(what: str, session: "Session", table: DurableTable[Any], samples: int | None) -> console.Meter:
    """Say what will be done, and measure it.

    Args:
        what: Such as "certifying".
        session: All that is loaded.
        table: Where it goes.
        samples: For each image; None if that is not known.
    """
    todo = sum(index not in table.done for index in session.indices)
    f, data, noise = session.classifier, session.dataset, session.noise.describe()["source"]
    print(
        f"{what} {todo} of {len(session.indices)} images: {data.name} {data.split}, sigma {session.sigma:g}, "
        f"{f.arithmetic}, batches of {f.batch_size} on {f.device}, {noise} noise of seed {session.seed}, "
        f"into {session.out}",
        file=sys.stderr,
        flush=True,
    )
    return console.Meter(what, "images", todo, None if samples is None else todo * samples, "samples")


def warn_of_invalid(rows: Iterable[Row | PredictionRow]) -> None:
    """Say how many samples were votes for no class, if any."""
    invalid = sum(row.counts.get(INVALID, 0) for row in rows)
    if invalid:
        print(
            f"warning: {invalid} samples had logits that were not finite; they voted for no class. Check the model, "
            "or its range in this dtype.",
            file=sys.stderr,
        )
