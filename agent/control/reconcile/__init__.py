"""Reading the actual state."""
