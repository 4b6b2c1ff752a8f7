"""Certificates carried over to the classifier that is served."""
