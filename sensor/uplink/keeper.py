"""Sees to it that the sensor has a good certificate: enrols where there is none, renews before it ends, notices files
that were replaced.

`prepare` runs before each dial, and every few seconds beside the stream, which then goes on with the old certificate
until there is a new one.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensor.clock import Clock
from sensor.uplink.certificates import CertificateFiles, CredentialError, read_times
from sensor.uplink.enroll import EnrollmentError, enroll, renew
from sensor.uplink.state import StateError
from sensor.uplink.target import Credentials, Target

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
# Between two tries to renew: a tenth of the life, so that three tries at least fit into the last third.
RETRY_RATIO: Final = 1 / 10
RETRY_SECONDS_LONGEST: Final = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSettings:
    """Who asks, where, and with what token."""

    target: Target
    cluster: str
    node: str
    server_name: str = ""
    token_file: Path | None = None
    look_seconds: float = LOOK_SECONDS


class CertificateKeeper:
    """One for the uplink."""

    def __init__(self, settings: KeeperSettings, files: CertificateFiles, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._retry_at = 0.0
        self._refused_chain: bytes | None = None
        self.files = files

    async def prepare(self) -> Credentials:
        """What a dial takes now, after what is to be done for it. Raises EnrollmentError, CredentialError, OSError,
        StateError."""
        credentials = self.files.load(self._settings.server_name)
        if not self.files.is_managed:
            return credentials
        now = self._clock.unix_ns() / 1e9
        if credentials.chain is None:
            return await self._enroll() if self._settings.token_file is not None else credentials
        times = read_times(credentials.chain, str(self.files.certificate_path))
        is_useless = times.is_expired(now) or credentials.chain == self._refused_chain
        if is_useless and self._settings.token_file is not None:
            return await self._enroll()
        if times.is_due(now) and not times.is_expired(now) and now >= self._retry_at:
            life = times.not_after - times.not_before
            self._retry_at = now + min(life * RETRY_RATIO, RETRY_SECONDS_LONGEST)
            return await self._renew(credentials)
        return credentials

    def note_refusal(self, credentials: Credentials) -> None:
        """The collector does not take this certificate: it has another authority than the one that signed it, or
        another clock. The next dial enrols again where there is a token."""
        self._refused_chain = credentials.chain

    async def watch(self, find_dialled: Callable[[], Credentials | None], redial: Callable[[], None]) -> None:
        """Until cancelled: redial where what a dial would take now is not what the stream has."""
        while True:
            await asyncio.sleep(self._settings.look_seconds)
            dialled = find_dialled()
            if dialled is None:
                continue  # The next dial prepares by itself.
            try:
                current = await self.prepare()
            except (EnrollmentError, CredentialError, OSError, StateError) as error:
                # The stream goes on with what it has; a dial says it again.
                logger.debug("no other certificate: %s", error)
                continue
            if current != dialled and find_dialled() is dialled:
                logger.info("certificate or authority is another one; dialling again")
                redial()

    async def _enroll(self) -> Credentials:
        settings = self._settings
        assert settings.token_file is not None
        token = settings.token_file.read_text().strip()
        await enroll(
            target=settings.target,
            token=token,
            cluster=settings.cluster,
            node=settings.node,
            files=self.files,
            server_name=settings.server_name,
        )
        logger.info("enrolled: the certificate is in %s", self.files.certificate_path)
        return self.files.load(settings.server_name)

    async def _renew(self, credentials: Credentials) -> Credentials:
        """The next certificate, or the one in use where there is none yet."""
        settings = self._settings
        try:
            await renew(target=settings.target, files=self.files, server_name=settings.server_name)
        except EnrollmentError as error:
            logger.warning("the certificate is not renewed yet: %s", error)
            return credentials
        logger.info("renewed the certificate in %s", self.files.certificate_path)
        return self.files.load(settings.server_name)
