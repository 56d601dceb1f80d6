"""Types and services of the collector that every room may import."""
