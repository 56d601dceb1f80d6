"""`apidae top`."""
