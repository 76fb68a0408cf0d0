"""The Swarm side of the engine's API."""
