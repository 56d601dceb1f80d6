"""The list of services, and one service."""
