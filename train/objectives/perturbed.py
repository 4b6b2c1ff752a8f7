"""What the objectives share whose copies are drawn as the key ``perturbation`` says."""

from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.objectives.objective import Objective
from maxup_smoothing.train.perturbations import catalogue


class Perturbed(Objective):
    """An objective of randomly perturbed copies of each image.

    Attributes:
        perturb: Draws one copy of a whole batch.

    Raises:
        ValueError: If ``perturbation`` does not say what can be drawn, or a key is set that none of its parts reads.
    """

    uses = ("perturbation", *(key for part in catalogue.PARTS.values() for key in part.reads if key != "sigma"))

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.perturb, self.mixes = catalogue.configured(config)
        for name, part in catalogue.PARTS.items():
            keys = (key for key in part.reads if key != "sigma")
            self.refuse_idle(name in config.perturbation, f"with {name!r} in perturbation", *keys)
