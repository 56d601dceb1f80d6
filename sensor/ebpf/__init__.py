"""Compiles, loads and reads programs of the kernel; gives records and knows nothing above it."""
