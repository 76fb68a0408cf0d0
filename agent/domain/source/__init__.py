"""Which commit to follow, and what Git servers answer."""
