"""The node side: sees HTTP calls at the kernel boundary, names them, and streams windows of them to a collector."""
