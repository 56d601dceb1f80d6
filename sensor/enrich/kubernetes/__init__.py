"""Reads the Pods of this node and their workloads from the Kubernetes API server."""
