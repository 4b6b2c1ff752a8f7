"""What every perturbation is."""

from collections.abc import Callable

import torch
from torch import Tensor

#: From a batch, its targets and a generator on the batch's device to both anew.
Perturbation = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
