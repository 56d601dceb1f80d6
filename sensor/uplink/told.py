"""What the collector has told this sensor and holds until it tells otherwise: keys, policy, and how its own traffic is
known, kept on disk."""

import logging

from sensor.enrich.own_traffic import CollectorTraffic
from sensor.uplink.policy import PolicyResult, PolicyUpdate, apply_update
from sensor.uplink.state import InstallationKey, StateDirectory, StateError

logger = logging.getLogger(__name__)


class Told:
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
        try:
            self._state.save_keys(keys)
        except StateError as error:
            logger.error("the installation key is not kept: %s", error)
        return is_other

    def take_own_traffic(self, told: CollectorTraffic) -> CollectorTraffic:
        """How the collector's own traffic is known from now on."""
        if told != self.own_traffic:
            self.own_traffic = told
            try:
                self._state.save_own_traffic(told)
            except StateError as error:
                logger.error("how the collector's own traffic is known is not kept: %s", error)
        return told

    def take_policy(self, update: PolicyUpdate) -> PolicyResult:
        """Applies or refuses it."""
        result = apply_update(self.policy, update)
        if not result.is_applied:
            logger.warning("policy refused: %s", result.reason)
            return result
        self.policy = result.policy
        try:
            self._state.save_policy(result.policy)
        except StateError as error:
            logger.error("the policy is not kept: %s", error)
        return result
