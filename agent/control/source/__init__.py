"""From the remotes to the commit to apply."""
