"""Whether a finished table holds: possible radii, rows drawn again, and false certificates counted."""
