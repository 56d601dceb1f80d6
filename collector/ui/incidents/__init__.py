"""Incidents: all that one actor did."""
