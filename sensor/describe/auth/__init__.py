"""Credentials of a request: which scheme, whose, how weak."""
