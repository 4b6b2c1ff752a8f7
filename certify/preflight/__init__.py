"""Checks before a run: they find what would make its certificates void, its numbers misleading, or the run useless."""
