"""From radius tables to numbers and figures."""
