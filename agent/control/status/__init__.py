"""What the agent says of itself and of what runs."""
