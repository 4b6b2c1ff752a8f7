"""From a radius table and a model to attacks: is it the model of the table, and what is already done."""

import dataclasses
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from maxup_smoothing.certify.attack.evidence import Evidence
from maxup_smoothing.certify.attack.gradients import GradientNetwork
from maxup_smoothing.certify.attack.judge import Judge
from maxup_smoothing.certify.attack.run import Attack, attack_images, count_rows, gradients_left
from maxup_smoothing.certify.attack.search import Certified, Search
from maxup_smoothing.certify.attack.table import AttackRow, AttackTable
from maxup_smoothing.certify.attack.threat_model import Goal
from maxup_smoothing.certify.noise.source import noise_source
from maxup_smoothing.certify.runs.reopen import brief, compare, request_of, require_sections
from maxup_smoothing.certify.runs.session import Request, Session, open_session
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.radius_table import read, sha256
from maxup_smoothing.data.runtime import console

_SEEDS = 2**64


@dataclass(frozen=True, kw_only=True)
class AttackRequest:
    """The arguments of ``certify attack``; see ``certify.commands.attack`` for their meaning."""

    model: str
    file: Path
    goals: Callable[[pd.DataFrame], Sequence[Goal]]
    maximum: int | None
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
    data: str | None
    data_root: Path | None
    device: str | None
    arch: str | None
    normalize: str | None
    weights: str | None

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
    opened = dataclasses.replace(
        request_of(
            stored,
            request.file,
            model=request.model,
            data=request.data,
            data_root=request.data_root,
            device=request.device,
            arch=request.arch,
            normalize=request.normalize,
            weights=request.weights,
        ),
        protocol="full",  # which images is said by the rows
    )
    session = open_session(opened, request.file.name, None)
    _require_same(request, stored, session)
    attack = _attack(request, opened, session, goals, _seed(request, out))
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


def _require_same(request: AttackRequest, stored: dict[str, Any], session: Session) -> None:
    """Refuse another model or other images than the table's; only warn of another platform."""
    errors, warnings = compare(stored, session.manifest)
    errors = [mismatch for mismatch in errors if not mismatch.field.startswith("protocol.")]
    if errors:
        raise ValueError(
            f"{request.model} is not what {request.file} is about: {'; '.join(map(brief, errors))}. Name the model and "
            "data of the table, or certify this model."
        )
    for mismatch in warnings:
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


def _attack(request: AttackRequest, opened: Request, session: Session, goals: Sequence[Goal], seed: int) -> Attack:
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
    for row in certified.head(request.maximum or len(certified)).to_dict("records"):
        index = int(row["idx"])
        if index >= len(images) or int(labels[index]) != row["label"]:
            raise ValueError(f"{request.file}: idx {index} is no image of the data set, or has another label there.")
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
            "sha256": sha256(request.file),
            "seed": session.seed,
        },
        "protocol": stored["protocol"],
        "noise": attack.judge.noise.describe(),
        "notes": {**session.manifest["notes"], "images": len(inputs)},
    }
