"""Detects anomalies and abuse in a process of its own, and changes of the inventory."""
