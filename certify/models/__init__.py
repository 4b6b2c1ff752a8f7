"""Anything that can be certified, as one frozen function of a batch."""
