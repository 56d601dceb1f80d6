"""Types and services that every package of the sensor may import: calls, settings, clock, keyed hashes."""
