"""Waiting until a release is healthy."""
