"""The agent with a real Gitea: `make forge`."""
