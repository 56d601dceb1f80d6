"""The table of what is in the images, and their budgets, of small trees."""

from pathlib import Path

import pytest

from scripts.containers.sizes import BUDGETS, check_budget, make_table, measure, name_part, write_table

SITE = "opt/apidae/lib/python3.13/site-packages"


@pytest.mark.parametrize(
    ("path", "part"),
    [
        (f"{SITE}/chdb/_chdb.abi3.so", "ClickHouse (chdb)"),
        (f"{SITE}/numpy.libs/libx.so", "numpy, of it OpenBLAS 24"),
        (f"{SITE}/collector/ui/pages.py", "Apidae"),
        (f"{SITE}/grpc/_cython/cygrpc.so", "grpc"),
        ("usr/lib/python3.13/os.py", "Python"),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", "C library, OpenSSL and other libraries of Debian"),
        ("etc/passwd", "other files of Debian"),
    ],
)
def test_each_file_belongs_to_one_part(path: str, part: str) -> None:
    assert name_part(path) == part


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3.13").write_bytes(b"x" * 1000)
    (tmp_path / "usr/bin/python3").symlink_to("python3.13")
    (tmp_path / "usr/bin/python").hardlink_to(tmp_path / "usr/bin/python3.13")
    (tmp_path / "var/cache").mkdir(parents=True)
    (tmp_path / "var/cache/x").write_bytes(b"x" * 1000)
    assert sum(measure(tmp_path).values()) == 1000


def test_the_table_adds_up(tmp_path: Path) -> None:
    sizes = {
        "sensor": {"grpc": 84_000_000, "Python": 21_000_000, "small": 1_000_000},
        "collector": {"ClickHouse (chdb)": 555_000_000, "Python": 22_000_000},
    }
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- scripts/images --build --sizes -->\nold\n<!-- end of sizes -->\nafter\n")
    write_table(sizes, page)
    assert page.read_text() == (
        "before\n<!-- scripts/images --build --sizes -->\n"
        "| Part | sensor, MB | collector, MB |\n|---|---:|---:|\n"
        "| ClickHouse (chdb) |  | 555 |\n| grpc | 84 |  |\n| Python | 21 | 22 |\n"
        "| all others | 1 |  |\n| **together** | 106 | 577 |\n"
        "<!-- end of sizes -->\nafter\n"
    )
    assert make_table(sizes) in page.read_text()


def test_an_image_above_its_budget_is_a_sentence() -> None:
    assert check_budget("sensor", BUDGETS["sensor"]) == ""
    assert "the sensor's image has 999 MB, and its budget is" in check_budget("sensor", 999_000_000)
