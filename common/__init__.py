"""What both sides mean alike; imports neither."""
