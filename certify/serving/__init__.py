"""Answers over HTTP: requests become images, wait for their turn together, and get a class with its certificate."""
