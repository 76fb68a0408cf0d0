"""Toolkit: a whole repository checked, two commits compared."""
