"""Calls from what processes read and wrote."""
