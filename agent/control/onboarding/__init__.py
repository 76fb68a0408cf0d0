"""Making a machine a host of the repository (setup), and ending that (leave)."""
