"""Import directions: every import points from the back of the house to its front, and only edge rooms touch the
outside.

A room is a module or package right under `common/`, `sensor/` or `collector/`. `ROOMS` lists each side's rooms in
their order: a room may import rooms that stand before it, and itself. A new room must be named here, at its place
(docs/architecture.md).
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ROOMS = {
    "common": ("figures",),
    "sensor": (
        # What everybody may name: the types that cross rooms, the clock, the account of losses.
        *(
            "calls",
            "printable",
            "breaks",
            "clock",
            "heap",
            "giving_way",
            "keyed",
            "runs",
            "ragged",
            "sketches",
            "config",
            "health",
            "failures",
            "columns",
            "key_table",
            "interning",
            "identities",
            "facts",
            "succession",
        ),
        # The way through, front door to back.
        *(
            "kernel",
            "pieces",
            "upgrades",
            "exchange",
            "reassembly",
            "protocols",
            "streams",
            "conversed",
            "conversations",
            "local_clients",
        ),
        *("classify", "bodies", "attacks"),
        *("vocabulary", "shapes", "trie", "trace", "hosts", "reveal", "schema_names", "schemas", "versions"),
        *(
            "allowance",
            "tables",
            "templating",
            "enrich",
            "coverage",
            "left_out",
            "tls",
            "capture",
            "kinds",
            "contents",
            "describe",
            "recognition",
            "packed",
            "packed_routes",
            "aggregation",
            "aggregate",
            "convert",
            "spool",
            "enforce",
        ),
        *("uplink",),
        # Composition.
        *(
            "lock",
            "takeover",
            "pause",
            "probe",
            "trial",
            "environment",
            "preflight",
            "pipeline",
            "rest",
            "parts",
            "enforcement",
            "intake",
            "running",
            "run",
            "prepared",
            "program_trial",
            "ready",
            "attach",
            "node",
            "knowledge",
            "compose",
            "exporter",
            "replay",
            "enroll_command",
            "enforcement_command",
            "cli",
        ),
    ),
    "collector": (
        *(
            "errors",
            "rows",
            "clock",
            "disk",
            "interval",
            "sensitivity",
            "local_time",
            "rates",
            "notifier_settings",
            "response_settings",
            "config",
            "keys",
        ),
        *("sensors", "connections", "outcomes"),
        *("protocols", "attacks"),
        *("trust", "own_traffic", "ingest", "store", "kubernetes", "alerts", "inventory"),
        *("schemas", "specs", "anomaly", "respond", "risk", "change", "erasure", "api", "ui", "app"),
        *("probe", "listeners", "entrance", "notifiers", "compose", "metrics", "housekeeping", "http_server", "run"),
        "commands",
        "cli",
    ),
}
# Modules that put several rooms together and so stand after all of them, whatever their folder.
COMPOSERS = {
    "sensor.kernel.capture": "sensor.capture",  # The kernel's events through exchange, as one object.
    "sensor.kernel.port_counts": "sensor.capture",  # And the maps of the coverage.
    "sensor.kernel.state": "sensor.capture",  # And all of it for another sensor.
    "sensor.kernel.syscall_capture": "sensor.capture",  # The same, of what processes read and wrote.
    "sensor.tls.capture": "sensor.prepared",  # TLS and the capture below it, as one object.
    "collector.api.app": "collector.app",  # The API and the page in one web application.
}
# Gathers the commands that both sides register, so it may import neither.
NEUTRAL = {"sensor.main"}

# Packages that reach outside, and the only rooms that may import them.
EDGES = {
    "bcc": {"sensor.kernel", "sensor.trial"},
    "grpc": {"sensor.uplink", "collector.ingest", "collector.entrance"},
    "cryptography": {"sensor.uplink", "collector.trust"},
    "chdb": {"collector.store"},
    "clickhouse_connect": {"collector.store"},
    "pyarrow": {"collector.store"},
    "fastapi": {"collector.api", "collector.app", "collector.ui"},
    "starlette": {"collector.api", "collector.app", "collector.ui"},
    "uvicorn": {"collector.http_server"},
    "h11": {"collector.http_server"},
    "lightkube": {"sensor.enrich", "collector.kubernetes"},
    "httpx2": {"sensor.enrich", "collector.kubernetes"},
    "pyroute2": {"sensor.enrich", "sensor.kernel"},
    "apidae": {"sensor.convert", "sensor.packed_routes", "sensor.uplink", "sensor.spool", "collector.ingest"},
}


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


IMPORTS = [found for side in ROOMS for path in sorted((ROOT / side).rglob("*.py")) for found in read_imports(path)]


def name_room(module: str) -> str:
    if module in COMPOSERS:
        return COMPOSERS[module]
    return ".".join(module.split(".")[:2])


def test_the_two_sides_never_meet() -> None:
    wrong = [
        str(found)
        for found in IMPORTS
        if (found.module.startswith("sensor") and found.target.split(".")[0] == "collector")
        or (found.module.startswith("collector") and found.target.split(".")[0] == "sensor")
        or (found.module.startswith("common") and found.target.split(".")[0] in ("sensor", "collector"))
        or (found.module in NEUTRAL and found.target.split(".")[0] in ROOMS)
        or found.target.split(".")[0] in ("tests", "scripts")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("side", ROOMS)
def test_every_room_has_its_place(side: str) -> None:
    rooms = {name_room(name_module(path)) for path in (ROOT / side).rglob("*.py")}
    rooms -= {side, *NEUTRAL, *COMPOSERS.values()}
    unknown = sorted(rooms - {f"{side}.{room}" for room in ROOMS[side]})
    assert not unknown, f"name {unknown} in ROOMS, at their place in the way through the house"


@pytest.mark.parametrize("side", ROOMS)
def test_imports_point_to_the_front(side: str) -> None:
    order = {f"{side}.{room}": place for place, room in enumerate(ROOMS[side])}
    wrong = [
        str(found)
        for found in IMPORTS
        if (importer := name_room(found.module)) in order
        and (imported := name_room(found.target)) in order
        and order[imported] > order[importer]
    ]
    assert not wrong, "\n".join(wrong)


def test_modules_form_no_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for found in IMPORTS:
        if found.target.split(".")[0] in ROOMS and found.target != found.module:
            graph.setdefault(found.module, set()).add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("package", EDGES)
def test_only_edges_touch_the_outside(package: str) -> None:
    wrong = [
        str(found)
        for found in IMPORTS
        if found.target.split(".")[0] == package and name_room(found.module) not in EDGES[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_checks_see_imports() -> None:
    """A check of imports that finds none would always pass."""
    assert any(found.target.split(".")[0] == "sensor" for found in IMPORTS)
    assert any(found.target.split(".")[0] == "collector" for found in IMPORTS)
    assert {found.target.split(".")[0] for found in IMPORTS} > set(sys.stdlib_module_names) & {"re", "enum"}
