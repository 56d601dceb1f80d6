"""Benchmarks; each module prints one JSON line for each scenario and runs by `scripts/bench NAME`."""
