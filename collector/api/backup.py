"""/backup: everything that the collector keeps, as one archive, to whoever has the API token and the backup's own.

The archive has the collector's keys, so the API token alone does not do. The work runs in a thread of its own, which
waits for the client and ends when that leaves. An error on the way breaks the connection, so that no client takes a
part for the whole.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from collector.api.export_log import ExportLog
from collector.api.parameters import NoParameters
from collector.api.problem import Problem
from collector.backup.archive import BLOCK_BYTES
from collector.backup.snapshot import Backup
from collector.core.budget import Budget, BudgetBook, check_budget

TOKEN_HEADER: Final = "apidae-backup"
MEDIA_TYPE: Final = "application/x-tar"
_LOOK_SECONDS: Final = 0.5  # Between two looks of a thread whose client reads slowly.


class _Stream:
    """Brings what a thread makes into the event loop, a part at a time."""

    def __init__(self, backup: Backup, budgets: BudgetBook) -> None:
        self._backup, self._budgets = backup, budgets
        self._budget: Budget | None = None
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(4)
        self._work = asyncio.create_task(asyncio.to_thread(self._write))

    async def take(self) -> bytes:
        """The next part; empty at the end. Raises what the work does."""
        getting = asyncio.create_task(self._parts.get())
        try:
            await asyncio.wait({getting, self._work}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return getting.result() or b""
            self._work.result()
            return self._parts.get_nowait() or b""
        finally:
            getting.cancel()

    async def leave(self) -> None:
        """End the work and wait for that."""
        while not self._work.done():
            if (budget := self._budget) is not None:
                await asyncio.to_thread(budget.cancel)
            await asyncio.wait({self._work}, timeout=_LOOK_SECONDS)
        self._work.exception()  # Whatever it was, nobody waits for it.

    def _write(self) -> None:
        with self._budgets.open() as budget:
            self._budget = budget
            archive = self._backup.write()
            try:
                for part in archive:
                    for start in range(0, len(part), BLOCK_BYTES):
                        self._put(part[start : start + BLOCK_BYTES])
                self._put(None)
            finally:
                archive.close()

    def _put(self, part: bytes | None) -> None:
        putting = asyncio.run_coroutine_threadsafe(self._parts.put(part), self._loop)
        try:
            while True:
                check_budget()
                try:
                    return putting.result(_LOOK_SECONDS)
                except TimeoutError:
                    continue
        finally:
            putting.cancel()


def build_backup_routes(
    *, backup: Backup, token: str, budgets: BudgetBook, exports: ExportLog, clock: Callable[[], float]
) -> APIRouter:
    """The one route."""
    router = APIRouter(tags=["operation"])

    @router.get(
        "/backup",
        summary="Backup",
        response_class=StreamingResponse,
        responses={200: {"description": "A tar file.", "content": {MEDIA_TYPE: {}}}},
    )
    async def get_backup(
        _: Annotated[NoParameters, Query()],
        given: Annotated[
            str, Header(alias=TOKEN_HEADER, description="The token in the collector's file backup.token.")
        ] = "",
    ) -> StreamingResponse:
        """All files and rows of one moment, as `apidae backup` writes them, with the collector's keys and tokens."""
        if not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode()):
            raise Problem(
                403,
                f"A backup needs the token in the collector's file backup.token, as the header {TOKEN_HEADER}; the API "
                "token alone does not do.",
            )
        stream = _Stream(backup, budgets)
        try:
            first = await stream.take()
            await asyncio.to_thread(exports.note, "backup", "backup")
        except BaseException:
            await asyncio.shield(stream.leave())
            raise

        async def send() -> AsyncIterator[bytes]:
            try:
                part = first
                while part:
                    yield part
                    part = await stream.take()
            finally:
                await asyncio.shield(stream.leave())

        name = datetime.fromtimestamp(clock(), UTC).strftime("apidae-%Y%m%dT%H%M%SZ.tar")
        # Its parts are compressed already; a coding that is set keeps the middleware from doing so again.
        headers = {"content-disposition": f'attachment; filename="{name}"', "content-encoding": "identity"}
        return StreamingResponse(send(), media_type=MEDIA_TYPE, headers=headers)

    return router
