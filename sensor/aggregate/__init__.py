"""Adds calls up to rows by route, consumer and status, and decides when a row leaves the node."""
