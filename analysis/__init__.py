"""From radius tables to numbers and figures."""

import data  # noqa: F401  # before torch: it says how threads wait
