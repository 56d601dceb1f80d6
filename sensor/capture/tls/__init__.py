"""Capture of calls over TLS, by uprobes in the functions of TLS libraries."""
