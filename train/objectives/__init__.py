"""Training objectives by name: what a batch's loss is."""

import dataclasses
from collections.abc import Mapping

from train.config import TrainConfig
from train.names import unknown
from train.objectives.catrs import CatRs
from train.objectives.consistency import Consistency
from train.objectives.gaussian import Gaussian
from train.objectives.gradient_penalty import GradientPenalty
from train.objectives.macer import Macer
from train.objectives.maxup import MaxUp
from train.objectives.mean_of_m import MeanOfM
from train.objectives.objective import Objective
from train.objectives.plain import Plain
from train.objectives.smoothadv import SmoothAdv
from train.objectives.smoothadv_consistency import SmoothAdvConsistency
from train.objectives.smoothmix import SmoothMix
from train.objectives.stability import Stability

OBJECTIVES: Mapping[str, type[Objective]] = {
    "gaussian": Gaussian,
    "plain": Plain,
    "maxup": MaxUp,
    "mean_of_m": MeanOfM,
    "gradient_penalty": GradientPenalty,
    "stability": Stability,
    "consistency": Consistency,
    "macer": Macer,
    "smoothadv": SmoothAdv,
    "smoothadv_consistency": SmoothAdvConsistency,
    "smoothmix": SmoothMix,
    "catrs": CatRs,
}

#: Keys of the configuration that only some objectives read.
OBJECTIVE_KEYS = frozenset(key for objective in OBJECTIVES.values() for key in objective.uses)


def build(config: TrainConfig) -> Objective:
    """The objective that ``config`` names.

    Raises:
        ValueError: If there is none of that name, if a key is set that it does not read, or its settings contradict
            each other.
    """
    if config.objective not in OBJECTIVES:
        raise ValueError(unknown("objective", config.objective, OBJECTIVES))
    objective = OBJECTIVES[config.objective]
    for field in dataclasses.fields(TrainConfig):
        value = getattr(config, field.name)
        if field.name in OBJECTIVE_KEYS - set(objective.uses) and value != field.default:
            readers = ", ".join(name for name, other in OBJECTIVES.items() if field.name in other.uses)
            raise ValueError(
                f"objective {config.objective!r} does not read {field.name} (set to {value!r}); leave it out, or "
                f"choose one that does: {readers}."
            )
    return objective(config)
