"""Whether a new version of the agent is well, and which one a commit asks for."""
