"""All applications of the benchmark."""

from typing import Final

from scripts.bench_cases.applying.application import Application
from scripts.bench_cases.applying.debian_programs import DEBIAN_PROGRAMS
from scripts.bench_cases.applying.node_programs import NODE_PROGRAMS
from scripts.bench_cases.applying.python_programs import PYTHON_PROGRAMS

APPLICATIONS: Final[tuple[Application, ...]] = (*PYTHON_PROGRAMS, *NODE_PROGRAMS, *DEBIAN_PROGRAMS)
