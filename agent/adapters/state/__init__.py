"""The journal: what the agent did and must remember."""
