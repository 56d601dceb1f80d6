"""Finds kinds of sensitive data by the names of fields and the form of values."""
