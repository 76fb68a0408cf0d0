"""Git as a program, and the agent's clone."""
