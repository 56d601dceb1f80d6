"""Alerts: what they are, how they live (open, update, close), and where they go."""
