"""The documentation of this version, which alerts and findings link to."""
