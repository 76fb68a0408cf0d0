"""A Swarm in the place of one host's containers."""
