"""What Compose resolved, judged and kept free of secrets."""
