"""Shares one run among several processes or jobs, by torchrun or by shards, and joins their tables."""
