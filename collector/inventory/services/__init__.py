"""Services: what the endpoints of one workload and port add up to."""
