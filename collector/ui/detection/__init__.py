"""The level of detection and known-good rules."""
