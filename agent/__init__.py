"""commitd: the commit is the deploy."""
