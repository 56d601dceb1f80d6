"""Reads how much of the traffic sensors read, and what they do not."""
