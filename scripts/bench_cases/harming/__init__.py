"""What scripts/bench harm is made of."""
