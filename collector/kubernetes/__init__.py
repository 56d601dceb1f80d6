"""Watches Kubernetes API servers: who held which address, and what exposes a workload."""
