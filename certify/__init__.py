"""From a checkpoint to a radius table."""

import data  # noqa: F401  # before torch: it says how threads wait
