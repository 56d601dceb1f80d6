"""For all tests: examples have no deadline, for a shared machine is slow at times and no test is of time; and room
for open files, of which the embedded engine keeps a dozen for every store that was closed.
"""

import resource

from hypothesis import settings

settings.register_profile("apidae", deadline=None)
settings.load_profile("apidae")

FILES = 20_000  # Servers that tests start make room by it, so not all that the machine would allow.

_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if _soft != resource.RLIM_INFINITY and _soft < FILES:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES if _hard == resource.RLIM_INFINITY else min(FILES, _hard), _hard))
