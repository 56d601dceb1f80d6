"""Detects unusual numbers of calls: baselines, bursts, silence."""
