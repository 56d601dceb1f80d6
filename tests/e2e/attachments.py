"""What BPF objects this host holds, by bpftool: to see that a sensor that is gone left nothing."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Attachments:
    """Ids of all BPF links, programs and maps on the host."""

    links: frozenset[int]
    programs: frozenset[int]
    maps: frozenset[int]


def find_bpftool() -> str:
    """Its path; skips the test where there is none.

    Ubuntu's wrapper looks for the running kernel's own, any other serves too.
    """
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    packaged = sorted(Path("/usr/lib/linux-tools").glob("*/bpftool"))
    found = str(packaged[-1]) if packaged else shutil.which("bpftool", path=search)
    if found is None:
        pytest.skip("bpftool is not installed: apt-get install bpftool (Ubuntu: linux-tools-generic)")
    return found


def list_ids(kind: str) -> frozenset[int]:
    """Ids of all objects of a kind (`link`, `prog`, `map`) now."""
    output = subprocess.run([find_bpftool(), "-j", kind, "list"], check=True, capture_output=True).stdout
    return frozenset(item["id"] for item in json.loads(output or b"[]") if isinstance(item, dict) and "id" in item)


def list_attachments() -> Attachments:
    """Everything now."""
    return Attachments(list_ids("link"), list_ids("prog"), list_ids("map"))
