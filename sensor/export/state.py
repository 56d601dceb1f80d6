"""What the sensor keeps on disk between starts: installation keys, policy, and how the collector's own traffic is
known.

Each is a 0600 file, written whole, in the state directory (`state_dir`, 0700). The directory also holds the certificate
(`sensor.export.certificates`) and the spool (`sensor.export.spool`). Values of keys never appear in an error.

`CollectorState` holds what the collector sent last. It is valid until the collector sends something else.
"""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from common.consumer_order import ConsumerColumn
from common.durable import read_json, read_whole, write_durably
from sensor.aggregate.aggregator import Triggers
from sensor.core.keyed import InstallationKey
from sensor.enrich.own_traffic import NOTHING_OWN, CollectorTraffic, read_collector_traffic
from sensor.export.policy import Policy, PolicyResult, PolicyUpdate, apply_update

_KEYS_FILE: Final = "keys.json"
_POLICY_FILE: Final = "policy.json"
_OWN_TRAFFIC_FILE: Final = "own_traffic.json"

T = TypeVar("T")


class StateError(Exception):
    """The state directory cannot be used; the message names it and says what to do."""


class StateDirectory:
    """The directory and its two files. Raises `StateError` where it cannot be made or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = path / f".probe-{os.getpid()}"
            probe.touch(mode=0o600)
            probe.unlink()
        except OSError as error:
            raise StateError(
                f"the state directory {path} cannot be used ({error.strerror}); "
                f"make it writable for this user or choose another with --state-dir"
            ) from error

    @property
    def spool_path(self) -> Path:
        return self.path / "spool"

    def load_keys(self) -> tuple[InstallationKey, ...]:
        """The keys last told by the collector, newest first; none where there are none or the file is damaged."""
        return tuple(key for key in self._read(_KEYS_FILE, _parse_keys) or () if key.is_valid)

    def read_bytes(self, name: str) -> bytes | None:
        """A file's content; None where there is none. Raises `StateError` where it cannot be read."""
        try:
            return read_whole(self.path / name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(
                f"{self.path / name} cannot be read ({error.strerror}); give this user the right"
            ) from error

    def write_bytes(self, name: str, content: bytes) -> None:
        """A 0600 file, whole or not at all. Raises `StateError` where the disk refuses."""
        path = self.path / name
        try:
            write_durably(path, content)
        except OSError as error:
            raise StateError(
                f"{path} cannot be written ({error.strerror}); free space on its disk or choose another --state-dir"
            ) from error

    def save_keys(self, keys: tuple[InstallationKey, ...]) -> None:
        """Remember the keys. Raises `StateError` where the disk refuses."""
        items = [{"key_id": key.key_id, "secret": key.secret.hex()} for key in keys]
        self._write(_KEYS_FILE, {"keys": items})

    def load_policy(self) -> Policy:
        """The last good policy, or the built-in one where there is none or the file does not hold a valid one."""
        update = self._read(_POLICY_FILE, _parse_policy)
        return apply_update(Policy(), update).policy if update is not None else Policy()

    def save_policy(self, policy: Policy) -> None:
        """Remember the policy. Raises `StateError` where the disk refuses."""
        triggers = {
            "distinct_objects_per_second": policy.triggers.distinct_objects_per_second,
            "calls_per_second": policy.triggers.calls_per_second,
        }
        found = {"epoch": policy.epoch, "triggers": triggers, "consumer_order": policy.consumer_order}
        self._write(_POLICY_FILE, found)

    def load_own_traffic(self) -> CollectorTraffic:
        """How the collector's own traffic was known last; not at all where the file is missing or damaged."""
        return self._read(_OWN_TRAFFIC_FILE, _parse_own_traffic) or NOTHING_OWN

    def save_own_traffic(self, own: CollectorTraffic) -> None:
        """Remember it. Raises `StateError` where the disk refuses."""
        self._write(
            _OWN_TRAFFIC_FILE,
            {"boot_id": own.boot_id, "process_mark": own.process_mark, "ends": list(own.ends)},
        )

    def _read(self, name: str, parse: Callable[[Any], T]) -> T | None:
        """What `parse` makes of the file's JSON; None where there is no such file, or it is damaged."""
        try:
            return read_json(self.path / name, parse, ValueError())
        except (OSError, ValueError):
            return None

    def _write(self, name: str, content: dict[str, object]) -> None:
        self.write_bytes(name, json.dumps(content).encode())


def _parse_keys(found: Any) -> tuple[InstallationKey, ...]:
    return tuple(
        InstallationKey(key_id=int(item["key_id"]), secret=bytes.fromhex(item["secret"])) for item in found["keys"]
    )


def _parse_policy(found: Any) -> PolicyUpdate:
    triggers = Triggers(
        distinct_objects_per_second=int(found["triggers"]["distinct_objects_per_second"]),
        calls_per_second=int(found["triggers"]["calls_per_second"]),
    )
    # Version 0.1 kept no order.
    order = tuple(ConsumerColumn(name) for name in found.get("consumer_order", ()))
    return PolicyUpdate(epoch=int(found["epoch"]), is_full=True, base_epoch=0, triggers=triggers, consumer_order=order)


def _parse_own_traffic(found: Any) -> CollectorTraffic:
    return read_collector_traffic(
        boot_id=str(found["boot_id"]),
        process_mark=str(found["process_mark"]),
        ends=[(str(address), int(port)) for address, port in found["ends"]],
    )


logger = logging.getLogger(__name__)


class CollectorState:
    """`keys` of the installation, newest first, and the last good `policy`. What cannot be written holds all the same,
    until the sensor ends."""

    def __init__(self, state: StateDirectory) -> None:
        """Raises StateError where what was kept cannot be read."""
        self._state = state
        self.keys = state.load_keys()
        self.policy = state.load_policy()
        self.own_traffic = state.load_own_traffic()

    @property
    def key_id(self) -> int:
        """Newest key held; 0 = none."""
        return self.keys[0].key_id if self.keys else 0

    def take_keys(self, keys: tuple[InstallationKey, ...]) -> bool:
        """Whether the newest is another one now."""
        if not keys or keys == self.keys:
            return False
        is_other = not self.keys or keys[0] != self.keys[0]
        self.keys = keys
        self._keep("the installation key", self._state.save_keys, keys)
        return is_other

    def take_own_traffic(self, told: CollectorTraffic) -> CollectorTraffic:
        """How the collector's own traffic is known from now on."""
        if told != self.own_traffic:
            self.own_traffic = told
            self._keep("how the collector's own traffic is known", self._state.save_own_traffic, told)
        return told

    def take_policy(self, update: PolicyUpdate) -> PolicyResult:
        result = apply_update(self.policy, update)
        if not result.is_applied:
            logger.warning("policy refused: %s", result.reason)
            return result
        self.policy = result.policy
        self._keep("the policy", self._state.save_policy, result.policy)
        return result

    @staticmethod
    def _keep(what: str, save: Callable[[T], None], value: T) -> None:
        try:
            save(value)
        except StateError as error:
            logger.error("%s is not kept: %s", what, error)
