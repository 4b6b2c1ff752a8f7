"""The machine that a run is on: the device that its configuration names, and what environment.json says of it."""

import json
import platform
import shlex
import sys

import torch

from maxup_smoothing.data.runtime.hardware import cpu_name
from maxup_smoothing.train.distributed import World


def device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: If it is none of auto, cpu, cuda and cuda:N, or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}.") from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device is {name}, but torch sees {torch.cuda.device_count()} CUDA devices; use --set device=cpu."
        )
    return found


def environment(device: torch.device, world: World) -> bytes:
    """The content of environment.json."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    described = {
        "command": shlex.join(["python", "-m", "train", *sys.argv[1:]]),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": name,
        "threads": torch.get_num_threads(),
        "processes": world.size,
        "host": platform.node(),
    }
    return json.dumps(described, indent=1).encode() + b"\n"
