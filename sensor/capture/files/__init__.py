"""Calls from capture files."""
