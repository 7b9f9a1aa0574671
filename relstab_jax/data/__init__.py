"""Tasks and images."""
