"""Turns host, method and path into a route, and decides which words of a path may leave the node."""
