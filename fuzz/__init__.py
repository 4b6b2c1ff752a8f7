"""Hostile files: every parser of the project with valid files to start from; see README.md here."""
