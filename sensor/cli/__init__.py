"""The sensor's commands."""
