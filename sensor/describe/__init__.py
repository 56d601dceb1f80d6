"""Turns a call into a record: kinds and keyed hashes, never values."""
