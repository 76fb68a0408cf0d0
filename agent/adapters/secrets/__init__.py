"""SOPS, the age key, and the plaintext of secrets."""
