"""Calls from packets that programs of the kernel copied."""
