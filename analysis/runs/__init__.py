"""Tables and run folders as named runs, and what their configuration says."""
