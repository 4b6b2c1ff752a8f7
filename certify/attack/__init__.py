"""Attacks on the smoothed classifier of a radius table: the test of the whole chain."""
