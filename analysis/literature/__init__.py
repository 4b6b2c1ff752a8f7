"""What others published, as data with its reader."""
