"""Tables on disk: rows, manifests, durable files, and the numbers of a whole table."""
