"""Toolkit: who has to read which secret, and who can."""
