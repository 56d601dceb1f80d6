"""What the sensor reads of each listening port, and what it does not and why: blind spots are listed, never silent."""
