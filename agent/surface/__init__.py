"""What people and tools touch."""
