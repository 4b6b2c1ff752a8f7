"""One run: begun from a request or reopened from a manifest, on one process or many."""
