"""The HTML page that explains runs."""
