"""Evidence of attacks in requests."""
