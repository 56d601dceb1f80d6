"""Turns a captured call into a call record, which holds kinds, lengths and keyed hashes, no values."""
