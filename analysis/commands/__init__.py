"""The commands of `python -m analysis`: arguments to files to one function to one artefact."""
