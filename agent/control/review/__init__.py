"""Toolkit: check and diff."""
