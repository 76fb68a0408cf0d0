"""Docker Compose as a program."""
