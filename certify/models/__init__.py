"""Loads a model of any supported kind, and makes it one frozen function from image batches to classes."""
