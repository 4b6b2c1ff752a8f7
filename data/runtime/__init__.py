"""What every command needs and is no data: console, signals, whole files, bounded parsers."""
