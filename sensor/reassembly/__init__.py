"""Byte streams of TCP connections by position, from segments that may come late, twice or not at all."""
