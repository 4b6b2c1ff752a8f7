"""The passes that a report tells of a training, against those that the objectives make."""

from typing import Any

import pytest
import tiny_training as tiny
import torch

from maxup_smoothing.analysis.runs.training import passes_of, passes_text


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "plain", "m": 1},
        {"objective": "gaussian", "m": 1},
        {"objective": "mean_of_m", "m": 3},
        {"objective": "maxup", "m": 3},
        {"objective": "maxup", "m": 1},
        {"objective": "maxup", "m": 3, "selection": "joint"},
        {"objective": "maxup", "m": 4, "reduction": "topk", "top_k": 2},
        {"objective": "maxup", "m": 2, "reduction": "topk", "top_k": 2},
        {"objective": "maxup", "m": 3, "reduction": "logsumexp"},
    ],
)
def test_passes_are_those_that_training_makes(changes: dict[str, Any]) -> None:
    network, made = tiny.network(), list[tuple[int, bool]]()
    network.register_forward_hook(lambda _model, x, _logits: made.append((len(x[0]), torch.is_grad_enabled())))
    options = {key: value for key, value in changes.items() if key != "objective"}
    objective = tiny.objective(changes["objective"], **options)
    objective(network, *tiny.batch(tiny.network()), tiny.STEP)
    forward = sum(rows for rows, _ in made)
    with_gradient = sum(rows for rows, gradient in made if gradient)  # each of which goes back once
    assert passes_of(changes) == (forward / tiny.B, with_gradient / tiny.B)


def test_passes_that_the_configuration_does_not_tell_are_unknown() -> None:
    assert passes_of({"objective": "maxup", "m": 4, "m_start": 2}) is None
    assert passes_of({"objective": "smoothadv", "m": 4}) is None
    assert passes_of({"objective": "maxup", "m": "4"}) is None
    assert passes_text({}, 3) is None
    assert passes_text({"task": "language", "m": 4, "reduction": "mean"}, 5) == "20 + 20"
