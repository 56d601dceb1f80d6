"""Reads sampled bodies: decodes and parses them, and finds kinds of data in them."""
