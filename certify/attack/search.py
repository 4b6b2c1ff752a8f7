"""Candidates for the strongest attack on some images: PGD within each goal's norm, and DDN's direction.

Both climb the loss of the mean softmax over noisy copies (Salman et al. 2019). What they find is moved to 8-bit images
within the norm, since those are the inputs that certificates are about.
"""

# Shapes: B images, A of them that are attacked, M noise copies; C channels, H height, W width.

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maxup_smoothing.certify.attack.gradients import GradientNetwork, noises_of
from maxup_smoothing.certify.attack.projection import budget, rounded
from maxup_smoothing.certify.attack.table import target_of
from maxup_smoothing.certify.attack.threat_model import Goal
from maxup_smoothing.train.objectives.attacks import ddn, pgd

_SHORTEST_START = 0.25  # of sigma: where DDN begins for images without a radius


@dataclass(frozen=True, kw_only=True)
class Certified:
    """An image with its certificate.

    Attributes:
        image: Its number in the data set.
        pixels_CHW: uint8.
        label: Its true class.
        predict: The certified one, or ``ABSTAIN``.
        radius: In [0, 1] pixel units.
    """

    image: int
    pixels_CHW: NDArray[np.uint8]
    label: int
    predict: int
    radius: float

    @property
    def target(self) -> int:
        """The class that is attacked."""
        return target_of(self.label, self.predict)

    @property
    def attackable(self) -> bool:
        """Whether there is something to attack: a wrong certificate counts as wrong without."""
        return self.target == self.label


@dataclass(frozen=True)
class Candidate:
    """An 8-bit image (C, H, W) within a goal's norm, and the attack that found it."""

    attack: str
    pixels_CHW: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Search:
    """How hard to search.

    Attributes:
        steps: Of each attack.
        samples: Noisy copies M behind each gradient.
        restarts: Attempts, each with noises of its own.
        seed: Of the noises.
        sigma: Of the noises.
    """

    steps: int
    samples: int
    restarts: int
    seed: int
    sigma: float

    def gradients(self, inputs: Sequence[Certified], goals: Sequence[Goal]) -> int:
        """How many gradients of single copies `candidates` will take."""
        attacked = [one for one in inputs if one.attackable]
        runs = len(attacked) + sum(len(_norms(attacked, goal)) for goal in goals)
        return runs * self.restarts * self.steps * self.samples


def candidates(
    network: GradientNetwork,
    inputs: Sequence[Certified],
    goals: Sequence[Goal],
    search: Search,
    device: torch.device,
    advance: Callable[[int], None] = lambda gradients: None,
) -> dict[tuple[int, int], list[Candidate]]:
    """Attacked images for each input and goal.

    Args:
        network: What is differentiated.
        inputs: Certified images of one shape.
        goals: Norms.
        search: How hard to search.
        device: Where to compute.
        advance: Called with the number of gradients of single copies.

    Returns:
        By (place among the inputs, number of the goal): one or more. Goals that leave an image out have none for it.
    """
    found: dict[tuple[int, int], list[Candidate]] = defaultdict(list)
    places = [place for place, one in enumerate(inputs) if one.attackable]
    attacked = [inputs[place] for place in places]
    for restart in range(search.restarts if attacked else 0):
        noises = noises_of(
            [one.image for one in attacked],
            attacked[0].pixels_CHW.shape,
            sigma=search.sigma,
            samples=search.samples,
            seed=search.seed,
            restart=restart,
        )
        noises = [noise_ACHW.to(device) for noise_ACHW in noises]
        x_ACHW = torch.from_numpy(np.stack([one.pixels_CHW for one in attacked])).to(device, torch.float32) / 255
        y_A = torch.tensor([one.target for one in attacked], device=device)
        # DDN looks for the nearest success whatever the goal, and its direction serves all of them.
        start_D = _column([max(one.radius, _SHORTEST_START * search.sigma) for one in attacked], x_ACHW)
        nearest_ACHW = ddn(network, x_ACHW, y_A, noises, epsilon=start_D, steps=search.steps) - x_ACHW
        directions = dict(enumerate(nearest_ACHW.cpu().numpy()))
        advance(len(attacked) * search.steps * search.samples)
        for goal in goals:
            norms = _norms(attacked, goal)
            if not norms:
                continue
            some = list(norms)
            part_ACHW, epsilon_D = x_ACHW[some], _column(list(norms.values()), x_ACHW)
            moved_ACHW = pgd(
                network,
                part_ACHW,
                y_A[some],
                [noise_ACHW[some] for noise_ACHW in noises],
                epsilon=epsilon_D,
                steps=search.steps,
            )
            changes = dict(zip(some, (moved_ACHW - part_ACHW).cpu().numpy(), strict=True))
            advance(len(some) * search.steps * search.samples)
            for place, norm in norms.items():
                one, own = attacked[place], found[places[place], goal.number]
                for attack, change_CHW in (("pgd", changes[place]), ("ddn", directions[place])):
                    own += [Candidate(attack, _moved(one.pixels_CHW, change_CHW, norm))]
    return {
        (place, goal.number): _different(inputs[place], found.get((place, goal.number), []))
        for place, one in enumerate(inputs)
        for goal in goals
        if goal.norm(one.label, one.predict, one.radius) is not None
    }


def _norms(attacked: Sequence[Certified], goal: Goal) -> Mapping[int, float]:
    """The norms by place of those images that the goal moves at all."""
    norms = {place: goal.norm(one.label, one.predict, one.radius) for place, one in enumerate(attacked)}
    return {place: norm for place, norm in norms.items() if norm is not None and budget(norm)}


def _moved(pixels_CHW: NDArray[np.uint8], change_CHW: NDArray[np.float32], norm: float) -> NDArray[np.uint8]:
    return rounded(change_CHW.reshape(-1), pixels_CHW.reshape(-1), budget(norm)).reshape(pixels_CHW.shape)


def _different(one: Certified, found: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that differ from the image and from each other; the image itself if there is none."""
    kept: dict[bytes, Candidate] = {}
    for candidate in found:
        if not np.array_equal(candidate.pixels_CHW, one.pixels_CHW):
            kept.setdefault(candidate.pixels_CHW.tobytes(), candidate)
    return list(kept.values()) or [Candidate("none", one.pixels_CHW)]


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).reshape(-1, *(1,) * (like.dim() - 1))
