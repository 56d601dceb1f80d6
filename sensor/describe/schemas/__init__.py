"""Collects the names and types of parameters and fields that the routes of this node use."""
