"""The device that a user names."""

import torch

from maxup_smoothing.certify.distributed import torchrun


def device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU if there is one. Of several processes each has its own GPU.

    Raises:
        ValueError: If there is no such device, or it is neither CPU nor CUDA.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and (number := torchrun.local_rank()) is not None:
        if number >= torch.cuda.device_count():
            raise ValueError(
                f"torchrun started process {number} of this machine, which has {torch.cuda.device_count()} CUDA "
                "devices; pass --nproc-per-node their number, or --device cpu."
            )
        torch.cuda.set_device(number)  # pinned memory and streams are the current device's
        return torch.device("cuda", number)
    try:
        found = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}.") from None
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device is {name}, but torch sees {torch.cuda.device_count()} CUDA devices; use cpu.")
    return found
