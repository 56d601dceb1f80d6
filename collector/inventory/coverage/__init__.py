"""What sensors read, and what they do not."""
