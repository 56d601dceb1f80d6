"""Captures from files through the sensor's own pipeline: `apidae replay`."""
