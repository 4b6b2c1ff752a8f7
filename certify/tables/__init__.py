"""What lies on disk: rows, manifests, durable files, and what a table says as a whole."""
