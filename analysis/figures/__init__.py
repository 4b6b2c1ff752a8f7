"""Drawing alone, one kind of figure a file."""
