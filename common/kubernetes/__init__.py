"""Follows objects of a Kubernetes API server: the reflector, and what both sides read of a Pod."""
