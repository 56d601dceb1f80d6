"""Detectors of abuse, by consumer."""
