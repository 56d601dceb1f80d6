"""The parts of `scripts/bench block`."""
