"""The agents of Swarms of several machines: `make swarm`."""
