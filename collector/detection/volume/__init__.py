"""Volume of calls: baselines, bursts, silence."""
