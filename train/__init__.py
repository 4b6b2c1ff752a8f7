"""From data to a checkpoint."""

import data  # noqa: F401  # before torch: it says how threads wait
