"""What BPF objects this host holds, by bpftool: to see that a sensor that is gone left nothing."""

from dataclasses import dataclass

import pytest

from scripts.live import kernel_objects


@dataclass(frozen=True, slots=True)
class Attachments:
    """Ids of all BPF links, programs and maps on the host."""

    links: frozenset[int]
    programs: frozenset[int]
    maps: frozenset[int]


def find_bpftool() -> str:
    """Its path; skips the test where there is none."""
    found = kernel_objects.find_bpftool()
    if found is None:
        pytest.skip("bpftool is not installed: apt-get install bpftool (Ubuntu: linux-tools-generic)")
    return found


def list_ids(kind: str) -> frozenset[int]:
    """Ids of all objects of a kind (`link`, `prog`, `map`) now."""
    return kernel_objects.list_ids(find_bpftool(), kind)


def list_attachments() -> Attachments:
    """Everything now."""
    return Attachments(list_ids("link"), list_ids("prog"), list_ids("map"))
