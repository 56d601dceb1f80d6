"""Blocks on this node."""
