"""Training objectives by name: what a batch's loss is.

A new one takes a class, a line in ``OBJECTIVES``, its keys in ``train.config``, a case in
``tests/train/objectives/test_all.py``, and its words in ``analysis.runs.training.copies_text``.
"""

import dataclasses
from collections.abc import Mapping

from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.names import unknown
from maxup_smoothing.train.objectives.augmentation import Gaussian, MeanOfM, Plain
from maxup_smoothing.train.objectives.catrs import CatRs
from maxup_smoothing.train.objectives.consistency import Consistency
from maxup_smoothing.train.objectives.gradient_penalty import GradientPenalty
from maxup_smoothing.train.objectives.macer import Macer
from maxup_smoothing.train.objectives.maxup import MaxUp
from maxup_smoothing.train.objectives.objective import Objective
from maxup_smoothing.train.objectives.smoothadv import SmoothAdv, SmoothAdvConsistency
from maxup_smoothing.train.objectives.smoothmix import SmoothMix
from maxup_smoothing.train.objectives.stability import Stability

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
