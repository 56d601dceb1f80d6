"""For all tests: examples have no deadline, for a shared machine is slow at times and no test is of time."""

from hypothesis import settings

settings.register_profile("apidae", deadline=None)
settings.load_profile("apidae")
