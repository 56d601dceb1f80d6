"""Blocks, proposals and their audit log."""
