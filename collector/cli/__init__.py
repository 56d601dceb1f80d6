"""The collector's commands, and those that query a running collector."""
