"""Looking at all that can be wrong on a host (doctor), without changing anything."""
