"""Computes a risk score and findings for each endpoint."""
