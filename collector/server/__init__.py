"""Composition of the collector, its listeners, jobs and metrics."""
