"""Readers for the logs of other randomized-smoothing projects; start at `certify.logs.reader`."""
