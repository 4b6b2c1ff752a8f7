"""Data-parallel training under torchrun: each process has some rows of every batch, and gradients are summed.

Not DistributedDataParallel: it wants one forward pass for each backward pass, and forbids ``torch.autograd.grad`` and
backward passes through backward passes. MaxUp selects by extra forward passes, attacks differentiate by the input, and
the gradient penalty differentiates twice. One ``all_reduce`` of all gradients after the backward pass serves them all;
it does not overlap with computing, which costs little where a step is several passes.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist

# Its functions take the process group of the moment of their import as a default argument. torch.optim imports it late,
# and a group that is held outlives destroy_process_group with gloo's threads, which abort a Python that is ending.
import torch.distributed.nn.functional
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes of a run: this is number ``rank`` of ``size``; ``local_rank`` of them on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files and talks."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its sum over all processes; a missing one counts as zero."""
        if self.size == 1:
            return
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def average_buffers(self, model: nn.Module) -> None:
        """Running statistics become the mean over the processes: each has seen other rows."""
        if self.size > 1:
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.sum(buffer.clone()) / self.size)

    def of_first(self, action: Callable[[], T]) -> T:
        """What ``action`` returns in the first process, which alone performs it; in all of them."""
        result = [action() if self.first else None]
        if self.size > 1:
            dist.broadcast_object_list(result)
        return cast(T, result[0])


@contextmanager
def join(device_type: str) -> Iterator[World]:
    """The world that torchrun has started, or a world of this process alone.

    Args:
        device_type: "cpu" (gloo) or "cuda" (nccl).

    Raises:
        ValueError: If there are more processes on this machine than CUDA devices.
    """
    if "LOCAL_RANK" not in os.environ:
        yield World()
        return
    world = World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"]))
    if device_type == "cuda":
        if world.local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"torchrun started process {world.local_rank} of this machine, which has {torch.cuda.device_count()} "
                "CUDA devices; use --nproc-per-node with their number, or --set device=cpu."
            )
        torch.cuda.set_device(world.local_rank)
    # The others wait while the first certifies held-out images; torchrun itself ends those whose partner has died.
    dist.init_process_group("nccl" if device_type == "cuda" else "gloo", timeout=timedelta(days=1))
    try:
        yield world
        dist.barrier()  # torchrun stops all when one fails: none ends while the first one still writes
    finally:
        dist.destroy_process_group()
