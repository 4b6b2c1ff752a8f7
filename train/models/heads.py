"""Classifier heads: which weights of a network belong to its last layer."""

import re

from torch import Tensor, nn

#: Names of classifier heads, as libraries call them.
_HEAD = re.compile(r"(^|\.)(head|head_dist|heads|fc|classifier|linear|last_linear|logits)(\.\w+)*$")


def is_head(name: str) -> bool:
    """Whether a module or weight has a name that libraries give to classifier heads."""
    return _HEAD.search(name) is not None


def head_parts(model: nn.Module, num_classes: int) -> list[str]:
    """The weights of a network's classifier heads: of its last layer, and of layers that are called so.

    Args:
        model: The network.
        num_classes: Its logits, the first size of each such weight.
    """
    layers = dict[str, Tensor]()
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() > 1:
            layers[name] = weight
    last = next(reversed(layers), "")
    heads = [name for name, weight in layers.items() if len(weight) == num_classes and (name == last or is_head(name))]
    return [f"{name}.{part}".lstrip(".") for name in heads for part in model.get_submodule(name).state_dict()]
