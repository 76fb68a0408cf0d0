"""The Docker Engine and its images."""
