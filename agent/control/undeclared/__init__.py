"""Containers that nobody declared: found, evicted, kept, brought back."""
