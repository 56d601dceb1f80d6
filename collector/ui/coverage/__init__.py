"""What is read, what is not, and why."""
