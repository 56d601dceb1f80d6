"""The sensor: captures HTTP calls of one node in the kernel, describes them, and streams rows to a collector."""
