"""Sources of calls: packets, system calls, TLS libraries, capture files."""
