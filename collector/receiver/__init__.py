"""Receives batches and reports from sensors, has batches written to the log, and sends the policy."""
