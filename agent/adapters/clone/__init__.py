"""Toolkit: a person's clone, registries, running projects."""
