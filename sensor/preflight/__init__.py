"""Checks before the start what this node lets a sensor do, and names the fix for the rest."""
