"""Readers for the logs of other randomized-smoothing projects; start at `certify.logs.reader`.

A new dialect whose first line names its columns is an entry of `certify.logs.tabular.DIALECTS`. Any other is a class,
see `certify.logs.log.Dialect`, in `certify.logs.reader.DIALECTS`.
"""
