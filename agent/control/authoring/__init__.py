"""Toolkit: pins and recipients in a clone."""
