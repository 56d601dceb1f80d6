"""The cluster of librdkafka's own tests: brokers on loopback that keep what they get in memory, for as long as it is
open. Python has no name for it, so its C functions are called."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

BROKERS: Final = 3
_PRODUCER: Final = 0


def find_library() -> Path | None:
    """The library that the Python client brings along; None without the client."""
    try:
        import confluent_kafka
    except ImportError:
        return None
    beside = Path(confluent_kafka.__file__).parent.with_suffix(".libs")
    return next(iter(sorted(beside.glob("librdkafka-*.so*"))), None)


class MockCluster:
    """Brokers with the topics that a test makes."""

    def __init__(self, library: Any, cluster: Any) -> None:
        self._library, self._cluster = library, cluster
        self.servers = str(library.rd_kafka_mock_cluster_bootstraps(cluster).decode())

    def create_topic(self, name: str, partitions: int = 1) -> None:
        assert self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, BROKERS) == 0

    def refuse(self, request: int, error: int, times: int) -> None:
        """The next requests of a kind (its API key) are answered by an error."""
        self._library.rd_kafka_mock_push_request_errors(
            self._cluster, ctypes.c_int16(request), ctypes.c_size_t(times), *[ctypes.c_int(error)] * times
        )

    def stop_broker(self, number: int) -> None:
        """It ends its connections and takes none."""
        assert self._library.rd_kafka_mock_broker_set_down(self._cluster, number) == 0

    def start_broker(self, number: int) -> None:
        assert self._library.rd_kafka_mock_broker_set_up(self._cluster, number) == 0


@contextmanager
def run_cluster(path: Path) -> Iterator[MockCluster]:
    library = ctypes.CDLL(str(path))
    library.rd_kafka_conf_new.restype = ctypes.c_void_p
    library.rd_kafka_new.restype = ctypes.c_void_p
    library.rd_kafka_new.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]
    library.rd_kafka_mock_cluster_destroy.argtypes = [ctypes.c_void_p]
    library.rd_kafka_destroy.argtypes = [ctypes.c_void_p]
    library.rd_kafka_mock_topic_create.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    for name in ("rd_kafka_mock_broker_set_down", "rd_kafka_mock_broker_set_up"):
        getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_int32]
    reason = ctypes.create_string_buffer(512)
    handle = library.rd_kafka_new(_PRODUCER, library.rd_kafka_conf_new(), reason, len(reason))
    assert handle, reason.value
    cluster = library.rd_kafka_mock_cluster_new(handle, BROKERS)
    try:
        yield MockCluster(library, ctypes.c_void_p(cluster))
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(handle)
