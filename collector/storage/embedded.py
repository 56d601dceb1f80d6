"""The embedded store: chdb in this process, on a directory that it owns, with each condition checked first.

Without the checks the engine dies of an illegal instruction (no AVX2) or says "Error initializing EmbeddedServer"
(directory in use). On a full disk it silently loses the definition of a table as it starts, and parts that it merges.
So it is given room that it may not use (collector/storage/disk.py).
"""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import clickhouse_connect

from collector.core.config import CollectorSettings
from collector.storage.base import StoreError
from collector.storage.clickhouse import CLONE_WRITING, SESSION_SETTINGS, ClickHouseStore, make_token, open_server
from collector.storage.disk import DiskReserve
from collector.storage.tables.layout import Layout, Retention

STORE_DIRECTORY = "store"  # Below data_dir.
CPU_INFO = Path("/proc/cpuinfo")
MEMORY_LIMIT_BYTES = 1_500_000_000
# Bytes; the defaults (5 GiB of marks, 8 threads) are a server's.
_MARK_CACHE_BYTES = 64 * 1024 * 1024
_THREAD_COUNT = 2
# The engine's allocator keeps memory that a statement gave back for 5 s, for each processor apart. Lists of 200,000
# endpoints, one after the other, took up to 690 MB so and 630 with this, and 600 and 500 once they were done.
_ALLOCATOR = "narenas:1,percpu_arena:disabled,dirty_decay_ms:300"
# Groups and sorted rows beyond it go to disk. So does a list of 200,000 endpoints by latency: it takes 132 MB of memory
# instead of 320, and up to two thirds more processor time. Lists by other figures stay below it.
SPILL_BYTES = 64_000_000
SETTINGS: Mapping[str, Any] = {
    **SESSION_SETTINGS,
    "max_bytes_before_external_group_by": SPILL_BYTES,
    "max_bytes_before_external_sort": SPILL_BYTES,
    # Our statements join few rows to many. Swapped, the many are held in memory: 700 MB of a day's calls.
    "query_plan_join_swap_table": "false",
}
# `keep_free_space_bytes`: the engine refuses an insert, and begins no merge, that would leave less. The others are what
# it does while nothing happens: each of 38 tables is looked at for merges and for what has expired, and an insert has
# its table looked at in any case. With the defaults (0.1 s, growing; 50 ms for its own memory) an idle engine takes
# 0.8 % of a core after half a minute, with these 0.1 %.
_IDLE_SECONDS = 10
_CONFIGURATION = """<clickhouse>
<storage_configuration><disks><default>
<keep_free_space_bytes>{floor_bytes}</keep_free_space_bytes>
</default></disks></storage_configuration>
<memory_worker_period_ms>1000</memory_worker_period_ms>
<background_processing_pool_thread_sleep_seconds_if_nothing_to_do>{idle_seconds}</background_processing_pool_thread_sleep_seconds_if_nothing_to_do>
<background_streaming_processing_pool_thread_sleep_seconds_if_nothing_to_do>{idle_seconds}</background_streaming_processing_pool_thread_sleep_seconds_if_nothing_to_do>
</clickhouse>
"""


class EmbeddedStore(ClickHouseStore):
    """A store whose directory is locked for the life of the process."""

    def __init__(
        self,
        directory: Path,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        disk: DiskReserve | None = None,
        retention: Retention | None = None,
        *,
        is_bare: bool = False,
    ) -> None:
        """Check, lock, open. Without `disk`, whose floor is kept, all of the volume may be used; `is_bare` as for
        ClickHouseStore. Raises StoreError with one sentence."""
        check_cpu(CPU_INFO)
        self._lock = lock_directory(directory)
        # The engine reads its options behind the path, so a path may not bring its own.
        if "?" in str(directory):
            raise StoreError(f"The data directory {directory} has a question mark in its name; choose another name.")
        os.environ.setdefault("JE_MALLOC_CONF", _ALLOCATOR)  # Read when the engine is loaded.
        options: dict[str, Any] = {
            "max_server_memory_usage": memory_limit_bytes,
            "mark_cache_size": _MARK_CACHE_BYTES,
            "max_threads": _THREAD_COUNT,
        }

        def open_client() -> Any:
            return clickhouse_connect.get_client(
                interface="chdb", path=str(directory / "engine"), chdb_options=options, settings=dict(SETTINGS)
            )

        layout = Layout(retention=retention or Retention())
        if disk is None:
            super().__init__(open_client, layout, is_bare=is_bare)
            return
        # In memory, for the engine's options cannot name each path, and the disk may be nearly full.
        with os.fdopen(os.memfd_create("engine.xml"), "w") as file:
            file.write(_CONFIGURATION.format(floor_bytes=disk.floor_bytes, idle_seconds=_IDLE_SECONDS))
            file.flush()
            options["config-file"] = f"/proc/self/fd/{file.fileno()}"
            super().__init__(open_client, layout, is_bare=is_bare)

    def insert_native(self, table: str, path: Path) -> None:
        """See ClickHouseStore; the engine reads the file itself, so that it need not be in memory."""
        quoted = str(path).replace("\\", "\\\\").replace("'", "\\'")
        settings = ", ".join(f"{name} = {value}" for name, value in CLONE_WRITING.items())
        settings += f", insert_deduplication_token = '{make_token()}'"
        self.execute(f"INSERT INTO {table} FROM INFILE '{quoted}' COMPRESSION 'zstd' SETTINGS {settings} FORMAT Native")

    def close(self) -> None:
        super().close()
        self._lock.close()


def locate_tables(directory: Path) -> Path:
    """The folder with a folder for each table, of the store in `directory`."""
    return directory / "engine" / "data" / "default"


def check_cpu(cpu_info: Path) -> None:
    """Raise StoreError on an x86-64 CPU without AVX2, which the engine is built for. Other machines have builds of
    their own.
    """
    try:
        text = cpu_info.read_text()
    except OSError:
        return
    flags = next((line for line in text.splitlines() if line.startswith("flags")), None)
    if flags is not None and "avx2" not in flags.split():
        raise StoreError(
            "This CPU has no AVX2, which the embedded store needs; use a machine that has it, "
            "or set store_url to a ClickHouse server."
        )


def lock_directory(directory: Path) -> IO[str]:
    """Create the directory (0700) and hold its lock until the file is closed. Raises StoreError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (directory / "lock").open("a+")
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise StoreError(
            f"The data directory {directory} cannot be written ({reason}); give this user the right or choose another."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise StoreError(
            f"The data directory {directory} is in use by another collector (process {owner}); "
            "stop that one or choose another."
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def open_store(
    settings: CollectorSettings, disk: DiskReserve | None = None, *, is_bare: bool = False
) -> ClickHouseStore:
    """The store that the settings name; `is_bare`: without making tables. Raises StoreError."""
    retention = find_retention(settings)
    if settings.store_url is None:
        return EmbeddedStore(settings.data_dir / STORE_DIRECTORY, disk=disk, retention=retention, is_bare=is_bare)
    return open_server(settings.store_url.get_secret_value(), retention, is_bare=is_bare)


def find_retention(settings: CollectorSettings) -> Retention:
    """How long the tables keep rows."""
    kept = settings.retention
    return Retention(
        minute_hours=kept.minute_hours,
        hour_days=kept.hour_days,
        alert_days=kept.alert_days,
        audit_days=kept.audit_days,
    )
