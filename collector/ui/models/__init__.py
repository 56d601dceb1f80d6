"""The list of calls to models."""
