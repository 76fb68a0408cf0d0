"""From desired and actual state to a plan."""
