"""Warm connections that ask each remote for its head."""
