"""Composition of the collector: its objects, listeners, threads, periodic jobs and metrics."""
