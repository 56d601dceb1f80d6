"""Parsers of HTTP and of protocols on top of it: bytes or frames in, heads, messages and streams out."""
