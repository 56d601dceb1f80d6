"""Consumers: lists and who they are."""
