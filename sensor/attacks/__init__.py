"""Attacks in requests, classified on the node: class, confidence and a keyed hash leave it, the payload never does."""
