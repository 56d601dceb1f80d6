"""Stops clients that the collector names, within this sensor's own limits: blocks in, verdicts for the kernel and
resets of connections out (docs/response.md)."""
