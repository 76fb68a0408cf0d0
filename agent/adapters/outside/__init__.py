"""Clients of what is told of a host: forges and the like."""
