"""From a checkpoint to a radius table."""
