"""Shapes of what routes receive and send."""
