"""Reads which workloads call which models, what is sent to them, and what that costs."""
