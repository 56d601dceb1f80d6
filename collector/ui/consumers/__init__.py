"""The list of consumers, one consumer, and who a token or name is."""
