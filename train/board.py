"""The lines of train.csv for TensorBoard."""

import dataclasses
import math
from pathlib import Path

from maxup_smoothing.train.loop import Epoch


class Board:
    """Event files beside ``train.csv``; ``tensorboard --logdir runs`` shows all runs in one plot.

    Args:
        folder: Of the run.
        finished: Epochs that are recorded already; events after them, of a run that was cut off, are hidden.

    Raises:
        ValueError: If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, finished: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "tensorboard = true needs TensorBoard: pip install 'maxup-smoothing[tensorboard]'."
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=finished + 1)

    def record(self, line: Epoch) -> None:
        """Write one epoch: each column of ``train.csv`` that holds a number."""
        for name, value in dataclasses.asdict(line).items():
            if name != "epoch" and not math.isnan(value):
                self._writer.add_scalar(name, value, line.epoch)
        self._writer.flush()
