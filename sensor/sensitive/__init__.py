"""Sensitive data by names and values."""
