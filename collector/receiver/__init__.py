"""Receives batches and reports from sensors, keeps the write-ahead log, and sends the policy."""
