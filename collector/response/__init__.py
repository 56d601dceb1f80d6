"""Proposes, approves and ends blocks, and passes them to sensors and other systems."""
