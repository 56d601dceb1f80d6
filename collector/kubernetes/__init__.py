"""What a Kubernetes API server knows of the peers of calls and of what leads to an endpoint from outside."""
