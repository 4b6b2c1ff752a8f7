"""Attacks on the smoothed classifier of a radius table: a test of the whole chain."""
