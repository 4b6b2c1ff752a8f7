"""Attacking the images of a radius table, group by group, into a table of attacks."""

import secrets
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from maxup_smoothing.certify.attack.gradients import GradientNetwork
from maxup_smoothing.certify.attack.judge import Judge
from maxup_smoothing.certify.attack.projection import squares
from maxup_smoothing.certify.attack.search import Candidate, Certified, Search, candidates
from maxup_smoothing.certify.attack.table import CONFIRMED, NOT_NEEDED, REFUTED, AttackRow, AttackTable, Evidence
from maxup_smoothing.certify.attack.threat_model import Goal
from maxup_smoothing.certify.noise.source import noise_source
from maxup_smoothing.certify.runs.reopen import Overrides, Reopened, brief, reopen_table, require_sections
from maxup_smoothing.certify.runs.session import Session
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.radius_table import read, sparse
from maxup_smoothing.data.runtime import console
from maxup_smoothing.data.runtime.atomic import file_sha256
from maxup_smoothing.data.runtime.memory import is_out_of_memory


@dataclass(frozen=True, kw_only=True)
class Attack:
    """All that attacking takes.

    Attributes:
        network: What is differentiated.
        search: How hard to search.
        judge: f, and how its answers are counted.
        goals: The norms.
        at_once: Images of a group, which are attacked together.
        device: Where to compute.
    """

    network: GradientNetwork
    search: Search
    judge: Judge
    goals: Sequence[Goal]
    at_once: int
    device: torch.device


def attack_images(
    attack: Attack,
    inputs: Sequence[Certified],
    table: AttackTable,
    evidence: Evidence | None = None,
    report: Callable[[int, int], None] = lambda gradients, rows: None,
) -> None:
    """Attack all images under all goals, but for the rows that ``table`` has; stop after a group with a confirmed one.

    Groups are always whole: a group that was cut off is attacked again, since the arithmetic of a batch may depend on
    its size, and what is missing is written. So a table that was continued equals one that was not, times aside.

    Args:
        attack: How.
        inputs: Certified images, in groups in this order.
        table: Open for writing.
        evidence: Where the images of successes go, before their rows.
        report: Called with the numbers of gradients taken and of rows finished.

    Raises:
        ValueError: If memory runs out, or a row contradicts itself.
        OSError: If the disk refuses a row.
    """
    if any(row.confirmed == CONFIRMED for row in table.done.values()):
        return
    for start in range(0, len(inputs), attack.at_once):
        group = inputs[start : start + attack.at_once]
        wanted = {(group[place].image, goal.number) for place, goal in _pairs(group, attack.goals)}
        if wanted <= table.done.keys():
            continue
        try:
            found = _attack_group(attack, group, lambda gradients: report(gradients, 0))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError(
                f"memory has run out over {attack.at_once} images with {attack.search.samples} samples each; begin the "
                "table again with a smaller --group-size."
            ) from error
        missing = [(row, pixels_CHW) for row, pixels_CHW in found if row.key not in table.done]
        if evidence is not None:
            evidence.add([(row, pixels_CHW) for row, pixels_CHW in missing if row.success])
        for row, _ in missing:
            table.append(row)
            report(0, 1)
        if any(row.confirmed == CONFIRMED for row, _ in missing):
            return


def count_rows(inputs: Sequence[Certified], goals: Sequence[Goal]) -> int:
    """Rows of the whole table."""
    return len(_pairs(inputs, goals))


def gradients_left(attack: Attack, inputs: Sequence[Certified], done: Collection[tuple[int, int]]) -> int:
    """How many gradients the groups that are not finished will take."""
    groups = (inputs[start : start + attack.at_once] for start in range(0, len(inputs), attack.at_once))
    return sum(
        attack.search.gradients(group, attack.goals)
        for group in groups
        if any((group[place].image, goal.number) not in done for place, goal in _pairs(group, attack.goals))
    )


def _attack_group(
    attack: Attack, group: Sequence[Certified], advance: Callable[[int], None]
) -> list[tuple[AttackRow, NDArray[np.uint8]]]:
    """The rows of a group's images, and the attacked images."""
    start, judge = time.perf_counter(), attack.judge
    found = candidates(attack.network, group, attack.goals, attack.search, attack.device, advance)
    pairs = _pairs(group, attack.goals)
    chosen = judge.strongest([(group[place], found[place, goal.number]) for place, goal in pairs])
    images = [(group[place].image, best.pixels_CHW) for (place, _), best in zip(pairs, chosen, strict=True)]
    answers = judge.predict(images)
    seconds = (time.perf_counter() - start) / max(1, len(pairs))
    rows = []
    for (place, goal), best, (answer, votes_V) in zip(pairs, chosen, answers, strict=True):
        one = group[place]
        epsilon = goal.norm(one.label, one.predict, one.radius)
        assert epsilon is not None
        row = AttackRow(
            idx=one.image,
            label=one.label,
            predict=one.predict,
            radius=one.radius,
            goal=goal.number,
            factor=goal.factor,
            epsilon=epsilon,
            attack=best.attack,
            squares=squares(one.pixels_CHW, best.pixels_CHW),
            attacked_predict=answer,
            n=judge.n,
            counts=sparse(votes_V),
            confirmed=NOT_NEEDED,
            confirm_counts={},
            seconds=seconds,
        )
        rows.append((_confirmed(judge, row, best), best.pixels_CHW))
    return rows


def _confirmed(judge: Judge, row: AttackRow, best: Candidate) -> AttackRow:
    """The row, with what many more samples say if it is a success within the certified radius."""
    if not (row.success and row.inside):
        return row
    answer, votes_V = judge.confirm(row.idx, best.pixels_CHW)
    verdict = REFUTED if answer in (ABSTAIN, row.predict) else CONFIRMED
    return AttackRow(**{**vars(row), "confirmed": verdict, "confirm_counts": sparse(votes_V)})


def _pairs(group: Sequence[Certified], goals: Sequence[Goal]) -> list[tuple[int, Goal]]:
    """(Place, goal) of a group's rows, in their order."""
    return [
        (place, goal)
        for place, one in enumerate(group)
        for goal in goals
        if goal.norm(one.label, one.predict, one.radius) is not None
    ]


_SEEDS = 2**64


@dataclass(frozen=True, kw_only=True)
class AttackRequest:
    """The arguments of ``certify attack``; see ``certify.commands.attack`` for their meaning."""

    file: Path
    given: Overrides
    goals: Callable[[pd.DataFrame], Sequence[Goal]]
    limit: int | None
    steps: int
    samples: int
    restarts: int
    n: int
    alpha: float
    confirm_n: int
    confirm_alpha: float
    at_once: int
    seed: int | None
    out: Path | None
    save: Path | None
    overwrite: bool

    @property
    def target(self) -> Path:
        """The table of attacks."""
        return self.out or self.file.with_name("attacks.tsv")


def attack_request(request: AttackRequest) -> tuple[Path, list[AttackRow]]:
    """Attack what ``request`` says, going on where an earlier run stopped.

    Returns:
        The table of attacks, and its rows.

    Raises:
        ValueError: For anything in the request that does not fit; with the fix.
        OSError: If files cannot be read or written.
    """
    certified, stored = _certified(request.file)
    goals = request.goals(certified)
    out = request.target
    if out.resolve() == request.file.resolve() or (
        manifests.manifest_path(out).resolve() == manifests.manifest_path(request.file).resolve()
    ):
        raise ValueError(f"{out} would replace the certified table or its manifest; name another file with --out.")
    evidence = None if request.save is None else Evidence(request.save, overwrite=request.overwrite)
    reopened = reopen_table(request.file, stored, request.given, of_rows=True)
    session = reopened.session
    _require_same(request, reopened)
    attack = _attack(request, reopened, goals, _seed(request, out))
    inputs = _inputs(request, certified, session)
    manifest = _manifest(request, session, attack, stored, inputs)
    with AttackTable.open(out, manifest, overwrite=request.overwrite) as table:
        if evidence is not None:
            evidence.require(table.done.values())
        total = count_rows(inputs, goals)
        todo, gradients = total - len(table.done), gradients_left(attack, inputs, table.done)
        print(
            f"attacking {len(inputs)} images of {request.file} at {len(goals)} radii, {todo} of {total} rows to do: "
            f"PGD and DDN, {request.steps} steps, {request.samples} samples, {request.restarts} restarts, seed "
            f"{attack.search.seed}, into {out}",
            file=sys.stderr,
            flush=True,
        )
        with console.Meter("attacking", "rows", todo, gradients, "gradients") as meter:
            attack_images(attack, inputs, table, evidence, meter.advance)
        return out, list(table.done.values())


def _certified(file: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    table = read(file)
    if table.empty:
        raise ValueError(f"{file} has no rows: nothing has been certified yet.")
    path = manifests.manifest_path(file)
    if not path.exists():
        raise FileNotFoundError(f"no manifest at {path}; it says which model and images the table is about.")
    stored = manifests.read(path)
    require_sections(stored, path)
    return table, stored


def _require_same(request: AttackRequest, reopened: Reopened) -> None:
    """Refuse another model or other images than the table's; only warn of another platform."""
    if reopened.errors:
        raise ValueError(
            f"{request.given.model} is not what {request.file} is about: {'; '.join(map(brief, reopened.errors))}. "
            "Name the model and data of the table, or certify this model."
        )
    for mismatch in reopened.warnings:
        print(f"warning: another platform, so f may round otherwise: {brief(mismatch)}", file=sys.stderr)


def _seed(request: AttackRequest, out: Path) -> int:
    if request.seed is not None:
        if not 0 <= request.seed < _SEEDS:
            raise ValueError(f"--seed must lie in [0, 2^64), got {request.seed}.")
        return request.seed
    beside = manifests.manifest_path(out)
    if out.exists() and beside.exists() and not request.overwrite:
        recorded = manifests.told(manifests.read(beside), "noise", "seed")
        if type(recorded) is int and 0 <= recorded < _SEEDS:
            return recorded
    return secrets.randbits(64)


def _attack(request: AttackRequest, reopened: Reopened, goals: Sequence[Goal], seed: int) -> Attack:
    opened, session = reopened.request, reopened.session
    classifier = session.classifier
    network = GradientNetwork(session.loaded.model, classifier, opened.model)
    x_BCHW = torch.from_numpy(session.dataset.images[:4]).to(classifier.device, torch.float32) / 255
    network.require_gradients(x_BCHW, session.sigma, opened.model)
    judge = Judge(
        classifier=classifier,
        noise=noise_source(opened.noise, session.sigma, seed),
        n=request.n,
        alpha=request.alpha,
        confirm_n=request.confirm_n,
        confirm_alpha=request.confirm_alpha,
    )
    judge.require_decisive(session.sigma)
    search = Search(
        steps=request.steps, samples=request.samples, restarts=request.restarts, seed=seed, sigma=session.sigma
    )
    return Attack(
        network=network,
        search=search,
        judge=judge,
        goals=goals,
        at_once=request.at_once,
        device=classifier.device,
    )


def _inputs(request: AttackRequest, certified: pd.DataFrame, session: Session) -> list[Certified]:
    images, labels = session.dataset.images, session.dataset.labels
    if not session.dataset.labelled:
        raise ValueError(
            f"the images of {request.file} have no labels, so an attack cannot be told from a mistake; certify images "
            "with labels for it."
        )
    inputs = []
    for row in certified.head(request.limit or len(certified)).to_dict("records"):
        index = int(row["idx"])
        if index >= len(images) or int(labels[index]) != row["label"]:
            raise ValueError(
                f"{request.file}: idx {index} is not an image of the data set, or has another label there."
            )
        inputs.append(
            Certified(
                image=index,
                pixels_CHW=images[index],
                label=int(row["label"]),
                predict=int(row["predict"]),
                radius=float(row["radius"]),
            )
        )
    return inputs


def _manifest(
    request: AttackRequest, session: Session, attack: Attack, stored: dict[str, Any], inputs: Sequence[Certified]
) -> dict[str, Any]:
    radii = [goal.epsilon for goal in attack.goals if goal.factor is None]
    factors = [goal.factor for goal in attack.goals if goal.factor is not None]
    return {
        **session.manifest,
        "sampling": {"procedure": "attack", "sigma": session.sigma, "n": request.n, "alpha": request.alpha},
        "attack": {
            "radii": radii,
            "of_radius": factors,
            "images": len(inputs),
            "attacks": ["pgd", "ddn"],
            "steps": request.steps,
            "samples": request.samples,
            "restarts": request.restarts,
            "at_once": request.at_once,
            "gradients": str(attack.network.dtype).removeprefix("torch."),
            **attack.judge.describe(),
        },
        "certified": {
            "file": request.file.name,
            "sha256": file_sha256(request.file),
            "seed": session.seed,
        },
        "protocol": stored["protocol"],
        "noise": attack.judge.noise.describe(),
        "notes": {**session.manifest["notes"], "images": len(inputs)},
    }
