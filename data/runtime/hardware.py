"""The name of the processor."""

import platform
from pathlib import Path


def cpu_name() -> str:
    """As the system calls it, such as "AMD EPYC 7763"; the architecture's name where it does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
