"""Statistics of two runs or two methods, and their words; it draws nothing."""
