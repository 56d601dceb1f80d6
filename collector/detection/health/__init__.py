"""Errors and latency of services."""
