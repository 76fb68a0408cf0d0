"""What a person orders on this host."""
