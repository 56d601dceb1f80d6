"""Sensitive data in bodies: which fields hold what kind of it. Values go in, kinds and paths come out."""
