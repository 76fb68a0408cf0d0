"""Networks, volumes and ports: declared, there, or in the way of each other."""
