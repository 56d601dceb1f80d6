"""Import directions: a package imports only packages that stand before it, and only edges touch the outside.

`PACKAGES` lists each side's packages in their order (docs/internals/architecture.md). A new one must be named here, at
its place.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PACKAGES = {
    "common": (
        *(
            "bounded",
            "capture_report",
            "completion",
            "consumer_order",
            "durable",
            "figures",
            "keyed_hash",
            "log_lines",
            "networks",
            "principals",
            "privileges",
            "settings",
            "flags",
            "main",
            "model_hosts",
            "rpc_status",
            "retry",
            "signals",
            "time_slice",
            "token_bucket",
        ),
        "kubernetes",
    ),
    "sensor": (
        *("core", "ebpf", "http", "sensitive", "routes", "enrich", "coverage", "describe", "aggregate"),
        *("enforce", "export", "offload", "capture", "agent", "preflight", "cli"),
    ),
    "collector": (
        *("core", "storage", "log", "trust", "receiver", "alerting", "kubernetes", "inventory", "schemas", "specs"),
        *("response", "risk", "detection", "erasure", "backup", "api", "ui", "server", "capture_report", "cli"),
    ),
}

# Who reads a module may have to read all that it stands on: at most so many, one on the other. A page stands on the
# frame of all pages, which stands on the API.
CHAIN_MODULES_MAX = 14

# What reaches outside, and the only packages that may import it.
EDGES = {
    "bcc": {"sensor.ebpf", "sensor.preflight"},
    "grpc": {"sensor.export", "collector.receiver", "collector.server"},
    "cryptography": {"sensor.export", "collector.trust"},
    "chdb": {"collector.storage"},
    "clickhouse_connect": {"collector.storage"},
    "pyarrow": {"collector.storage"},
    "psycopg": {"collector.log"},
    "confluent_kafka": {"collector.log"},
    "sqlalchemy": {
        "collector.storage",
        "collector.trust",
        "collector.receiver",
        "collector.inventory",
        "collector.alerting",
        "collector.detection",
        "collector.response",
        "collector.log",
        "collector.risk",
        "collector.specs",
    },
    "alembic": {"collector.storage"},
    "fastapi": {"collector.api", "collector.ui", "collector.server"},
    "starlette": {"collector.api", "collector.ui", "collector.server"},
    "uvicorn": {"collector.server"},
    "h11": {"collector.server"},
    "lightkube": {"common.kubernetes"},
    "httpx2": {"common.kubernetes"},
    "apidae": {"sensor.export", "collector.receiver", "collector.log"},
}

# What a process imports stays in its memory. These are for what not every collector does, and are imported there:
# a map or a chart that somebody looks at, a cluster, notifications, another collector, OpenID Connect, an upgrade.
_RARE = ("networkx", "pygal", "lightkube", "httpx", "httpx2", "authlib", "alembic", "psycopg", "rich", "pygments")
# Detectors read a log of files and write files.
_OF_THE_PARENT = (
    *("asyncio", "chdb", "pyarrow", "clickhouse_connect", "sqlalchemy", "sqlite3", "grpc", "cryptography", "ssl"),
    *("fastapi", "starlette", "uvicorn", "pydantic", "jinja2", "prometheus_client", "typer", "email", "http"),
)
_COLLECTOR = """
import collector.cli.commands, collector.server.run
from collector.server.app import build_app
"""
_DETECTORS = """
from multiprocessing import Pipe
from pathlib import Path
import msgspec
from collector.detection.messages import Mapped, Stop
from collector.detection.process import run_detectors
from collector.log.open import LogPlace
from common.consumer_order import CONSUMER_ORDER

ours, theirs = Pipe()
for message in (Mapped({}), Stop()):
    ours.send_bytes(msgspec.msgpack.encode(message))
place = Path(DIRECTORY)
(place / "wal").mkdir()
run_detectors(theirs, LogPlace(directory=place / "wal"), str(place / "checkpoint"), CONSUMER_ORDER, "UTC")
"""


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement: `module` imports `target`, both dotted."""

    module: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.module} line {self.line} imports {self.target}"


def name_module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_imports(path: Path) -> Iterator[Import]:
    """All imports of a file, those inside functions and under TYPE_CHECKING too."""
    module = name_module(path)
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{module} line {node.lineno}: write the whole name, a relative one hides directions"
            )
            for alias in node.names:
                yield Import(module, resolve_target(node.module or "", alias.name), node.lineno)


def resolve_target(base: str, name: str) -> str:
    """`from base import name`: the module that is imported, which may be `base.name` itself."""
    whole = ROOT.joinpath(*base.split("."), name)
    return f"{base}.{name}" if whole.is_dir() or whole.with_suffix(".py").exists() else base


IMPORTS = [found for side in PACKAGES for path in sorted((ROOT / side).rglob("*.py")) for found in read_imports(path)]


def name_package(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_the_two_sides_never_meet() -> None:
    wrong = [
        str(found)
        for found in IMPORTS
        if (found.module.startswith("sensor") and found.target.split(".")[0] == "collector")
        or (found.module.startswith("collector") and found.target.split(".")[0] == "sensor")
        or (found.module.startswith("common") and found.target.split(".")[0] in ("sensor", "collector"))
        or found.target.split(".")[0] in ("tests", "scripts")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("side", PACKAGES)
def test_every_package_has_its_place(side: str) -> None:
    packages = {name_package(name_module(path)) for path in (ROOT / side).rglob("*.py")} - {side}
    assert packages == {f"{side}.{name}" for name in PACKAGES[side]}


@pytest.mark.parametrize("side", PACKAGES)
def test_every_package_has_a_docstring(side: str) -> None:
    files = sorted((ROOT / side).rglob("__init__.py"))
    assert not [str(path.relative_to(ROOT)) for path in files if not ast.get_docstring(ast.parse(path.read_text()))]


@pytest.mark.parametrize("side", PACKAGES)
def test_imports_point_to_the_front(side: str) -> None:
    order = {f"{side}.{name}": place for place, name in enumerate(PACKAGES[side])}
    wrong = [
        str(found)
        for found in IMPORTS
        if (importer := name_package(found.module)) in order
        and (imported := name_package(found.target)) in order
        and order[imported] > order[importer]
    ]
    assert not wrong, "\n".join(wrong)


def build_graph() -> dict[str, set[str]]:
    """By module of the product, those that it imports."""
    graph: dict[str, set[str]] = {}
    for found in IMPORTS:
        if found.target.split(".")[0] in PACKAGES and found.target != found.module:
            graph.setdefault(found.module, set()).add(found.target)
    return graph


def test_modules_form_no_cycle() -> None:
    try:
        TopologicalSorter(build_graph()).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("side", PACKAGES)
def test_no_chain_of_imports_is_too_long(side: str) -> None:
    graph, chains = build_graph(), dict[str, tuple[str, ...]]()
    for module in TopologicalSorter(graph).static_order():
        chains[module] = (module, *max((chains[one] for one in graph.get(module, ())), key=len, default=()))
    longest = max((chain for module, chain in chains.items() if module.split(".")[0] == side), key=len)
    assert 1 < len(longest) <= CHAIN_MODULES_MAX, f"{len(longest)} modules: {' > '.join(longest)}"


@pytest.mark.parametrize("package", EDGES)
def test_only_edges_touch_the_outside(package: str) -> None:
    wrong = [
        str(found)
        for found in IMPORTS
        if found.target.split(".")[0] == package and name_package(found.module) not in EDGES[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_checks_see_imports() -> None:
    """A check of imports that finds none would always pass."""
    assert any(found.target.split(".")[0] == "sensor" for found in IMPORTS)
    assert any(found.target.split(".")[0] == "collector" for found in IMPORTS)
    assert {found.target.split(".")[0] for found in IMPORTS} > set(sys.stdlib_module_names) & {"re", "enum"}


@pytest.mark.parametrize(
    ("program", "module", "absent"),
    [
        (_COLLECTOR, "sqlalchemy", _RARE),
        (_DETECTORS, "collector.detection.engine", (*_RARE, *_OF_THE_PARENT)),
    ],
    ids=["collector", "detectors"],
)
def test_a_process_imports_only_what_it_needs_always(
    program: str, module: str, absent: tuple[str, ...], tmp_path: Path
) -> None:
    text = f"{program.replace('DIRECTORY', repr(str(tmp_path)))}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    imported = done.stdout.split()
    assert module in imported
    assert not [name for name in absent if name in imported]
