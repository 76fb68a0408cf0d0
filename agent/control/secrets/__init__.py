"""Secrets decrypted as far as they changed."""
