"""What of the traffic is read, and why the rest is not."""
