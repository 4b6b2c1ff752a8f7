"""Before a run: what would make its certificates void, its numbers mean something else, or its hours useless."""
