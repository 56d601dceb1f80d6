"""The report of a capture file: one collector in a temporary directory, fed with what a sensor makes of the file."""
