"""How a host and its stacks are, and why."""
