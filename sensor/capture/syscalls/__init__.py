"""Capture by system calls, for nodes on which packets cannot be captured."""
