"""What this machine lets a sensor do, tried before it starts."""
