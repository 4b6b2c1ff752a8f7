"""``certify run`` and ``certify predict``: one process, or several of torchrun that share the images.

Each of several processes writes a table of its own (``distributed.rank_tables``). The first process gathers the rows of
an earlier run and says which images are to be done. In the end it makes one table of all, as a single process writes
it.
"""

import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maxup_smoothing.certify.distributed import rank_tables, torchrun
from maxup_smoothing.certify.distributed.world import Tally, World, join
from maxup_smoothing.certify.engine.datasets import certify_dataset, predict_dataset
from maxup_smoothing.certify.engine.guard import Guard
from maxup_smoothing.certify.runs.precheck import checked
from maxup_smoothing.certify.runs.session import Request, Session, open_session, with_images_read
from maxup_smoothing.certify.statistics.prediction import PredictionSampling, PredictionSettings
from maxup_smoothing.certify.statistics.procedure import ProcedureSettings, Sampling
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.durable import DurableTable
from maxup_smoothing.certify.tables.fields import INVALID
from maxup_smoothing.certify.tables.prediction_table import PredictionRow, PredictionTable, render_predictions
from maxup_smoothing.certify.tables.radius_table import RadiusTable
from maxup_smoothing.certify.tables.row import Row
from maxup_smoothing.data.runtime import console, strict_json

_SEEN = 60.0  # seconds
#: Images that a process still has to do, a table for them, a report of samples and rows, and a guard.
Work = Callable[[Iterable[int], Any, Callable[[int, int], None], Guard], None]


def certify_request(request: Request, settings: ProcedureSettings, radii: Sequence[float] | None = None) -> Path | None:
    """Certify what ``request`` says, going on where an earlier run stopped.

    Args:
        request: What to certify.
        settings: The procedure.
        radii: Those that a user wants to read off the table.

    Returns:
        The radius table; None in all processes but the first.

    Raises:
        ValueError: For anything in the request that does not fit; with the fix.
        OSError: If files cannot be read or written.
    """
    with join() as world:
        session = _opened(world, request, "radii.tsv", settings)
        sampling = settings.at(session.sigma)
        if world.first:
            session = checked(session, request, sampling, radii)
        f, noise, data = session.classifier, session.noise, session.dataset

        def work(indices: Iterable[int], table: RadiusTable, report: Callable[[int, int], None], guard: Guard) -> None:
            certify_dataset(f, noise, data, indices, sampling, table, report, guard)

        samples = sampling.n0 + sampling.most if sampling.procedure == "fixed" else None
        rows = _run(world, request, session, sampling, RadiusTable, "certifying", samples, work)
        return session.out if rows is not None else None


def predict_request(request: Request, settings: PredictionSettings) -> str | None:
    """PREDICT for what ``request`` says, going on where an earlier run stopped.

    Returns:
        A line that sums up the table of predictions; None in all processes but the first.

    Raises:
        ValueError: For anything in the request that does not fit; with the fix.
        OSError: If files cannot be read or written.
    """
    with join() as world:
        session = _opened(world, request, "predictions.tsv", settings)
        sampling = settings.at(session.sigma)
        if world.first:
            session = checked(session, request)
        f, noise, data = session.classifier, session.noise, session.dataset

        def work(
            indices: Iterable[int], table: PredictionTable, report: Callable[[int, int], None], guard: Guard
        ) -> None:
            predict_dataset(f, noise, data, indices, sampling, table, report, guard)

        samples = sampling.n if sampling.procedure == "fixed" else None
        rows = _run(world, request, session, sampling, PredictionTable, "predicting", samples, work)
        return render_predictions(rows) if rows is not None else None


def _opened(
    world: World, request: Request, default_out: str, settings: ProcedureSettings | PredictionSettings
) -> Session:
    """The session, with the same settings in all processes: what is left open the first one chooses."""
    if world.size > 1 and request.overwrite and torchrun.restarts():
        raise ValueError(
            "--overwrite would begin anew whenever torchrun restarts a process; delete the old table, or leave "
            "--max-restarts at 0."
        )
    session: Session | None = None

    def first() -> bytes:
        nonlocal session
        session = with_images_read(open_session(request, default_out, settings, processes=world.size))
        return manifests.encode(session.manifest)

    chosen = world.of_first("manifest", first)
    if session is None:
        like = strict_json.parse(chosen)
        assert isinstance(like, dict)
        threads = manifests.told(like, "notes", "threads")
        if type(threads) is int and threads != torch.get_num_threads():
            torch.set_num_threads(threads)  # they may decide how a sum is rounded
        session = open_session(request, default_out, settings, like)
        if differing := manifests.difference(like, session.manifest):
            raise ValueError(
                f"process 0 uses {differing.told(f'process {world.rank} uses')}; all processes need the same "
                "model, data, torch and kind of device."
            )
    world.meet("agreed")  # else images would be certified that an error then voids
    return session


def _run(
    world: World,
    request: Request,
    session: Session,
    sampling: Sampling | PredictionSampling,
    kind: type[DurableTable[Any]],
    what: str,
    samples: int | None,
    work: Work,
) -> dict[int, Any] | None:
    """Do what is left, and return all rows by idx in the first process."""
    manifest, out = {"sampling": sampling.describe(), **session.manifest}, session.out
    with ExitStack() as stack:
        shared: DurableTable[Any] | None = None

        def begin() -> bytes:
            nonlocal shared
            shared = stack.enter_context(kind.open(out, manifest, overwrite=request.overwrite))
            if request.overwrite:
                rank_tables.discard(out)
            rank_tables.gather(shared, manifest)
            _annotate(shared, session, world)
            done = shared.done
            return np.array([index for index in session.indices if index not in done], dtype=np.int64).tobytes()

        todo = np.frombuffer(world.of_first("todo", begin), dtype=np.int64).tolist()
        if world.size == 1:
            assert shared is not None
            own = shared
        else:
            _require_shared_folder(out)
            own = stack.enter_context(kind.open(rank_tables.path_of(out, world.rank), manifest))
        with ExitStack() as showing:
            bar = None if shared is None else showing.enter_context(meter(what, session, shared, samples))
            tally = Tally(world, None if bar is None else bar.advance)
            with _guard(session, own, world, todo) as guard:
                work(world.claimed(todo), own, tally.advance, guard)
            own.close()
            world.meet("done", tally.tell)
        if shared is not None and own is not shared:
            rank_tables.gather(shared, manifest)
        rows = dict(shared.done) if shared is not None else None
    world.meet("gathered")
    if rows is not None:
        if missing := sum(index not in rows for index in session.indices):
            raise ValueError(
                f"{missing} images have no row in {out}: other machines wrote theirs to a folder of the same name. "
                f"Copy {rank_tables.path_of(out, 1).name} and so on beside it and run the command again; nothing is "
                "done twice."
            )
        warn_of_invalid(rows.values())
    return rows


def _require_shared_folder(out: Path) -> None:
    """What process 0 has begun must be seen here; a network's file system may take its time to show it."""
    until = time.monotonic() + _SEEN
    while not out.exists():
        if time.monotonic() > until:
            raise ValueError(
                f"process 0 has begun {out}, which {platform.node()} does not see; write it to a file system that all "
                "machines share."
            )
        time.sleep(0.1)


def _annotate(table: DurableTable[Any], session: Session, world: World) -> None:
    stored, now = table.manifest.get("notes"), session.manifest["notes"]
    changed = manifests.continued_notes(stored, now)
    if world.size > 1:
        changed["processes"] = world.size
    if any(manifests.told(table.manifest, "notes", name) != value for name, value in changed.items()):
        table.annotate(changed)


def _guard(session: Session, table: DurableTable[Any], world: World, todo: Sequence[int]) -> Guard:
    return Guard(
        session.classifier,
        table,
        session.indices,
        torch.from_numpy(session.dataset.images[:32]),
        session.sources,
        others=world.size - 1,
        quiet=not world.first,
        left=None if world.size == 1 else lambda: world.unclaimed(len(todo)),
    )


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
