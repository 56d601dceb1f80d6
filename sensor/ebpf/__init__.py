"""Compiles, loads and attaches the eBPF programs, and reads and writes their rings and maps."""
