"""Parsers of HTTP and what it carries: bytes in, messages and calls out."""
