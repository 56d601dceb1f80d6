"""Classifies the credentials of a request: scheme, principal, weaknesses."""
