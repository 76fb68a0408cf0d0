"""Toolkit: running projects taken into the repository."""
