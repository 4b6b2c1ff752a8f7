"""The judge of attacked images: votes of f on noise that the attack has not seen."""

# Shapes: V = K + 1 kinds of vote.

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maxup_smoothing.certify.attack.search import Candidate, Certified
from maxup_smoothing.certify.engine.votes import Item, count_votes
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import ATTACK_CHOICE, ATTACK_CONFIRM, ATTACK_JUDGE, NoiseSource
from maxup_smoothing.certify.statistics.prediction import PredictionSampling, prediction

CHOICE_SAMPLES = 200


@dataclass(frozen=True, kw_only=True)
class Judge:
    """PREDICT for attacked images.

    It answers three questions: which candidate is the strongest, what PREDICT says of it, and whether that is so at a
    strict alpha. Each has noise of its own, of another stage than certificates.

    Attributes:
        classifier: f.
        noise: Where noisy copies come from.
        n: Samples of PREDICT.
        alpha: Its failure probability.
        confirm_n: Samples that confirm a success within a certified radius.
        confirm_alpha: Their failure probability.
    """

    classifier: BaseClassifier
    noise: NoiseSource
    n: int
    alpha: float
    confirm_n: int
    confirm_alpha: float

    def require_decisive(self, sigma: float) -> None:
        """Refuse numbers of samples with which PREDICT always abstains.

        Raises:
            ValueError: With the fix.
        """
        PredictionSampling(sigma=sigma, n=self.n, alpha=self.alpha)
        try:
            PredictionSampling(sigma=sigma, n=self.confirm_n, alpha=self.confirm_alpha)
        except ValueError as error:
            raise ValueError(f"--confirm-n, --confirm-alpha: {error}") from None

    def strongest(self, contests: Sequence[tuple[Certified, Sequence[Candidate]]]) -> list[Candidate]:
        """Of each image's candidates the one with the smallest lead of the attacked class, in fresh samples of f."""
        several = [(one, found) for one, found in contests if len(found) > 1]
        images = [(one.image, candidate.pixels_CHW) for one, found in several for candidate in found]
        votes = iter(self._votes(images, ATTACK_CHOICE, CHOICE_SAMPLES))
        chosen = []
        for one, found in contests:
            leads = [_lead(next(votes), one.target) for _ in found] if len(found) > 1 else [0]
            chosen.append(found[int(np.argmin(leads))])
        return chosen

    def predict(
        self, images: Sequence[tuple[int, NDArray[np.uint8]]], advance: Callable[[int], None] = lambda samples: None
    ) -> list[tuple[int, NDArray[np.int64]]]:
        """PREDICT's answers, with the votes (K + 1,) behind them, for (number, pixels) of images."""
        votes = self._votes(images, ATTACK_JUDGE, self.n, advance)
        return [(prediction(votes_V, self.alpha), votes_V) for votes_V in votes]

    def confirm(self, image: int, pixels_CHW: NDArray[np.uint8]) -> tuple[int, NDArray[np.int64]]:
        """PREDICT's answer at the strict alpha."""
        [votes_V] = self._votes([(image, pixels_CHW)], ATTACK_CONFIRM, self.confirm_n)
        return prediction(votes_V, self.confirm_alpha), votes_V

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "choice_samples": CHOICE_SAMPLES,
            "confirm_n": self.confirm_n,
            "confirm_alpha": self.confirm_alpha,
        }

    def _votes(
        self,
        images: Sequence[tuple[int, NDArray[np.uint8]]],
        stage: int,
        samples: int,
        advance: Callable[[int], None] = lambda samples: None,
    ) -> NDArray[np.int64]:
        items = [Item(torch.from_numpy(pixels_CHW), number, stage, 0, samples) for number, pixels_CHW in images]
        return count_votes(self.classifier, self.noise, items, advance)


def _lead(votes_V: NDArray[np.int64], target: int) -> int:
    return int(votes_V[target] - np.delete(votes_V[:-1], target).max())
