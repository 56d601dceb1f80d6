"""Calls that are seen and not told, by choice: of workloads that are switched off, and those of probes. Counted, and
listed in the coverage."""
