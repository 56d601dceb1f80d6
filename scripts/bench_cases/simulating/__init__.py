"""What `scripts/bench simulation --changes` adds to its calls."""
