"""Toolkit: a running project, or nothing, made into a repository."""
