"""A release: is it healthy, does it drift, what needs a restart."""
