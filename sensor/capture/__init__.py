"""The sources of calls: packets, system calls, TLS libraries and capture files."""
