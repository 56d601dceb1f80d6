"""Takes batches and reports of sensors, and keeps them until they are stored."""
