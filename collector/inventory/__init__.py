"""Reads the inventory from the store: endpoints, consumers, sensors, coverage, changes."""
