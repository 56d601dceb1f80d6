"""Calls over TLS, read at the functions of its libraries."""
