"""Findings and decisions about them."""
