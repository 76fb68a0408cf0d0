"""The agent's API: what the host knows and does, for programs."""
