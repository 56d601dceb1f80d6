"""Each network namespace is visited for itself."""

import pytest

from sensor.enrich import sockets as namespace
from sensor.enrich.sockets import visit_namespaces


def test_a_namespace_whose_reading_fails_keeps_no_other_from_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace, "_set_namespace", lambda fd: True)
    faults = [None, ValueError("a bug"), OSError(1, "Operation not permitted"), None]

    def visit() -> str:
        fault = faults.pop(0)
        if fault is not None:
            raise fault
        return "read"

    paths = [f"/proc/self/ns/{name}" for name in ("net", "mnt", "ipc", "uts")]
    assert visit_namespaces(["/absent", *paths], visit) == {paths[0]: "read", paths[3]: "read"}
