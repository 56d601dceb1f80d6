"""Reads the calls behind an alert and what their callers have in common."""
