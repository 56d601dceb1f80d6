"""Rows on their way to the collector."""
