"""A Swarm as one host: its services, tasks and nodes."""
