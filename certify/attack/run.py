"""Attacking the images of a radius table, group by group, into a table of attacks."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from maxup_smoothing.certify.attack.evidence import Evidence
from maxup_smoothing.certify.attack.gradients import GradientNetwork
from maxup_smoothing.certify.attack.judge import Judge
from maxup_smoothing.certify.attack.projection import squares
from maxup_smoothing.certify.attack.search import Candidate, Certified, Search, candidates
from maxup_smoothing.certify.attack.table import CONFIRMED, NOT_NEEDED, REFUTED, AttackRow, AttackTable, key
from maxup_smoothing.certify.attack.threat_model import Goal
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.tables.radius_table import sparse
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
        wanted = {key(group[place].image, goal.number) for place, goal in _pairs(group, attack.goals)}
        if wanted <= table.done.keys():
            continue
        try:
            found = _attack_group(attack, group, lambda gradients: report(gradients, 0))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError(
                f"memory has run out over {attack.at_once} images with {attack.search.samples} samples each; begin the "
                "table again with a smaller --at-once."
            ) from error
        missing = [(row, pixels_CHW) for row, pixels_CHW in found if row.idx not in table.done]
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


def gradients_left(attack: Attack, inputs: Sequence[Certified], done: Mapping[int, AttackRow]) -> int:
    """How many gradients the groups that are not finished will take."""
    groups = (inputs[start : start + attack.at_once] for start in range(0, len(inputs), attack.at_once))
    return sum(
        attack.search.gradients(group, attack.goals)
        for group in groups
        if any(key(group[place].image, goal.number) not in done for place, goal in _pairs(group, attack.goals))
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
            image=one.image,
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
    answer, votes_V = judge.confirm(row.image, best.pixels_CHW)
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
