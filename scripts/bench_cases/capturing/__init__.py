"""The parts of `scripts/bench capture`: servers, loads, what watches them, rounds, and what a round cost."""
