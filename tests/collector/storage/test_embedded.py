"""The embedded engine's conditions, each told in one sentence before the engine can fail on it."""

from pathlib import Path

import pytest

from collector.storage.base import StoreError
from collector.storage.clickhouse import make_store_error, open_server
from collector.storage.embedded import check_cpu, lock_directory


def test_cpu_without_avx2_is_told(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("model name\t: old\nflags\t\t: fpu sse4_2 avx\n")
    with pytest.raises(StoreError, match=r"no AVX2.*store_url"):
        check_cpu(info)
    info.write_text("flags\t\t: fpu avx avx2 bmi2\n")
    check_cpu(info)
    info.write_text("Features\t: fp asimd\n")
    check_cpu(info)
    check_cpu(tmp_path / "none")


def test_directory_has_one_owner(tmp_path: Path) -> None:
    first = lock_directory(tmp_path / "d")
    with pytest.raises(StoreError, match=r"in use by another collector \(process \d+\)"):
        lock_directory(tmp_path / "d")
    first.close()
    lock_directory(tmp_path / "d").close()
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700


def test_unwritable_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        lock_directory(tmp_path / "file")


def test_server_address_never_shows_its_password() -> None:
    with pytest.raises(StoreError, match="http") as error:
        open_server("ftp://user:secret@host/db")
    assert "secret" not in str(error.value)
    with pytest.raises(StoreError, match="cannot be used") as error:
        open_server("http://user:secret@127.0.0.1:1/db")
    assert "secret" not in str(error.value)


def test_memory_error_says_what_helps() -> None:
    text = "Code: 241. DB::Exception: (total) memory limit exceeded. (MEMORY) (version 26)\nmore"
    error = make_store_error(RuntimeError(text))
    assert "store_url" in str(error) and "\n" not in str(error)
    assert "store_url" in error.advice and "limit exceeded" not in error.advice
