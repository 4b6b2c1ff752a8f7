"""The commands of `python -m analysis`: each reads files, calls one function and writes one artefact."""
