"""Whether a new version of the agent is healthy, and which one a commit asks for."""
