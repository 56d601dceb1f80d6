"""Detectors of volume, abuse, health and changes, and the process that runs them."""
