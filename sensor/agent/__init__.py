"""The sensor's process: composition, main loop, locks, control socket and metrics listener."""
