"""The command line: options, help and printed text, without computation."""
