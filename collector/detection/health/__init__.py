"""Detects changes of error rate and latency, of endpoints and services."""
