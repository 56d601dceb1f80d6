"""The components, each shown once."""
