"""Alerts: life cycle, incidents, wording."""
