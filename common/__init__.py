"""What the sensor and the collector share: figures for metrics, and the `apidae` command."""
