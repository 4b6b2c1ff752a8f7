"""Many workers and one table: torchrun, shards, and how their tables are joined."""
