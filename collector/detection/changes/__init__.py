"""What changed in the inventory."""
