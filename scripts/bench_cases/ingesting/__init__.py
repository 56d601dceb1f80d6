"""The load of `scripts/bench ingest`: simulated nodes that speak the real protocol, and what their collector uses."""
