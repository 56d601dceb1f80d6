"""Types and services that every package of the collector may import: settings, rows, keys, kinds."""
