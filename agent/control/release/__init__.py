"""Deploys and removals: each stack from plan to release or rollback."""
