"""The machine for other kernels: which package is taken, and the archive it boots from."""

import pytest

from scripts.vm.architecture import select_lock
from scripts.vm.initramfs import _entry
from scripts.vm.package import _split, choose_package
from scripts.vm.steps import MARK, collect_counts, render_table

LISTING = """\
linux-image-6.1.0-47-amd64 - Linux 6.1 for 64-bit PCs (signed)
linux-image-6.1.0-50-amd64 - Linux 6.1 for 64-bit PCs (signed)
linux-image-6.1.0-50-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.12.9+deb13-amd64 - Linux 6.12 for 64-bit PCs (signed)
linux-image-6.12.107+deb13-amd64 - Linux 6.12 for 64-bit PCs (signed)
linux-image-6.12.107+deb13-amd64-dbg - Debug symbols for linux-image-6.12.107+deb13-amd64
linux-image-6.12.117+deb13-rt-amd64 - Linux 6.12 for 64-bit PCs (signed), PREEMPT_RT
linux-image-6.12.117+deb13-amd64-unsigned - Linux 6.12 for 64-bit PCs
linux-image-7.3.4+deb13-amd64 - Linux 7.3.4 for 64-bit PCs
linux-binary-7.3.4+deb13-amd64 - Linux 7.3.4 for 64-bit PCs
linux-image-6.12.117+deb13-arm64 - Linux 6.12 for 64-bit ARMv8 machines (signed)
linux-image-6.12.117+deb13-arm64-16k - Linux 6.12 for 64-bit ARMv8 machines (16k pages) (signed)
linux-image-6.12.117+deb13-cloud-arm64 - Linux 6.12 for arm64 cloud (signed)
"""


@pytest.mark.parametrize(
    ("version", "package"),
    [
        ("6.1", "linux-image-6.1.0-50-amd64"),
        ("6.12", "linux-image-6.12.107+deb13-amd64"),
        ("6.12.9", "linux-image-6.12.9+deb13-amd64"),
        ("7.3", "linux-image-7.3.4+deb13-amd64"),
        ("7", "linux-image-7.3.4+deb13-amd64"),
        ("5.10", None),
    ],
)
def test_the_newest_stock_kernel_of_a_version(version: str, package: str | None) -> None:
    assert choose_package(LISTING, version) == package


def test_a_kernel_of_another_architecture() -> None:
    assert choose_package(LISTING, "6.12", "arm64") == "linux-image-6.12.117+deb13-arm64"
    assert choose_package(LISTING, "6.1", "arm64") is None


def test_packages_for_another_machine_are_the_sensors_and_the_tests_by_hash() -> None:
    names = {line.partition("==")[0] for line in select_lock().splitlines() if line[:1].isalpha()}
    assert {"grpcio", "numpy", "capstone", "pytest", "pluggy"} <= names
    assert not {"chdb-core", "fastapi", "ruff", "mypy"} & names
    assert "--hash=sha256:" in select_lock()


def test_a_kernel_in_two_packages() -> None:
    assert _split("linux-image-6.1.0-50-amd64", LISTING) == ["linux-image-6.1.0-50-amd64"]
    assert _split("linux-image-7.3.4+deb13-amd64", LISTING) == [
        "linux-binary-7.3.4+deb13-amd64",
        "linux-modules-7.3.4+deb13-amd64",
    ]


def test_an_entry_of_the_archive_is_aligned_and_tells_its_sizes() -> None:
    entry = _entry("init", 0o100755, b"hello")
    assert len(entry) % 4 == 0
    assert entry[:6] == b"070701"
    assert int(entry[54:62], 16) == 5  # c_filesize
    assert int(entry[94:102], 16) == len("init") + 1  # c_namesize
    assert entry[110:115] == b"init\0"
    assert entry[116:121] == b"hello"


def test_the_table_of_steps_has_what_each_kernel_reported() -> None:
    printed = [
        "collected 2 items",
        f'{MARK}{{"release": "6.1.0", "steps": {{"walk": 1200, "skim": 7}}}}',
        f'{MARK}{{"release": "6.12.1", "steps": {{"walk": 30, "entry": 5000}}}}',
        f'{MARK}{{"release": "6.1.0", "steps": {{"entry": 900}}}}',
        f'{MARK}{{"release": "5.12.0", "steps": {{}}}}',
    ]
    assert render_table(collect_counts(printed)).splitlines() == [
        "| Program | 6.1.0 | 6.12.1 |",
        "| --- | --- | --- |",
        "| `entry` | 900 | 5,000 |",
        "| `walk` | 1,200 | 30 |",
        "| `skim` | 7 |  |",
        "| **most** | **1,200** | **5,000** |",
    ]
