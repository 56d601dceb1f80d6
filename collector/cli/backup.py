"""`apidae backup` asks any collector for its backup; `apidae restore` fills an empty data directory from one."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any, Final

import typer

from collector.cli.client import Api, command, fail, open_output, say
from collector.cli.progress import show_progress
from collector.core.config import CollectorSettings, load_settings
from collector.core.keys import BACKUP_TOKEN_FILE
from common.flags import with_flags
from common.settings import ConfigError

TOKEN_VARIABLE: Final = "APIDAE_BACKUP_TOKEN_FILE"
# The collector clones its tables before it answers, and may merge between two parts of a large one.
_SECONDS: Final = 300.0
Config = Annotated[Path | None, typer.Option(help="TOML file of settings.")]
TokenFileOption = Annotated[
    str,
    typer.Option(
        "--backup-token-file",
        metavar="PATH",
        envvar=TOKEN_VARIABLE,
        show_default="backup.token in the data_dir of the settings",
        help="File with the collector's backup token.",
    ),
]


def register_backup(app: typer.Typer) -> None:
    """Add both commands."""

    @command(app, "backup", prints=False)
    def backup(
        api: Api,
        file: Annotated[str, typer.Argument(metavar="FILE", help="Where to write it; `-` for standard output.")],
        backup_token_file: TokenFileOption = "",
    ) -> None:
        """Write everything that a running collector keeps into one archive. It holds keys and tokens."""
        from collector.api.backup import TOKEN_HEADER
        from collector.backup.archive import ArchiveError, Contents, check_archive

        headers = {TOKEN_HEADER: _read_token(backup_token_file)}
        needed = 0
        with show_progress() as progress:

            def begin(contents: Contents) -> None:
                nonlocal needed
                needed = contents.bytes
                progress.begin("Backing up", contents.bytes, contents.find_bytes)

            try:
                with open_output(file) as output, _request(api, headers) as read:
                    contents = check_archive(
                        _Copying(read, output), "The backup", on_contents=begin, on_part=progress.advance
                    )
            except ArchiveError as error:
                raise fail(f"{error} The collector's log says why it ended.") from None
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise fail(f"{file} cannot be written ({error.strerror}); choose another file.") from None
                raise fail(
                    f"There is no room for {file}: the backup takes up to {needed / 1e6:,.0f} MB; free some, or choose "
                    "another volume."
                ) from None
        _report("Backed up", contents)

    app.command(
        "restore", help="Fill an empty data directory from a backup. The collector must not run, and starts on it then."
    )(with_flags(CollectorSettings, ("data_dir",))(restore))


def restore(
    flags: dict[str, Any],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `apidae backup` wrote.")],
    is_check: Annotated[bool, typer.Option("--check", help="Only check that the archive is whole.")] = False,
    config: Config = None,
) -> None:
    """Everything, with its rows counted."""
    from collector.backup.archive import ArchiveError, check_archive
    from collector.backup.restore import restore as restore_archive
    from collector.storage.base import StoreError
    from collector.storage.embedded import open_store
    from collector.storage.state.store import open_state

    os.umask(0o077)
    try:
        with show_progress() as progress:
            if is_check:
                progress.begin("Checking", file.stat().st_size)
                with file.open("rb") as opened:
                    contents = check_archive(opened, str(file), on_contents=id, on_part=progress.advance)
            else:
                settings = load_settings(flags, config_path=config)
                url = settings.state_url
                state = None if url is None else open_state(settings.data_dir, url.get_secret_value())
                contents = restore_archive(
                    file,
                    settings.data_dir,
                    lambda: open_store(settings, is_bare=True),
                    is_embedded=settings.store_url is None,
                    is_log_shared=settings.log_url is not None,
                    state=state,
                    on_step=progress.begin,
                    on_part=progress.advance,
                )
    except (ArchiveError, ConfigError, StoreError) as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{error.filename or file}: {error.strerror or error}.") from None
    _report("Whole:" if is_check else "Restored", contents)


def _report(what: str, contents: Any) -> None:
    made_at = datetime.fromtimestamp(contents.made_at, UTC).isoformat(timespec="seconds")
    say(
        f"{what} {contents.rows:,} rows of {len(contents.tables)} tables and {len(contents.files)} files, as of "
        f"{made_at}.",
        err=True,
    )


def _read_token(path: str) -> str:
    """Raises typer.Exit with its sentence said."""
    try:
        place = Path(path).expanduser() if path else load_settings({}).data_dir / BACKUP_TOKEN_FILE
        return place.read_text().strip()
    except (ConfigError, UnicodeDecodeError) as error:
        raise fail(f"The backup token cannot be read ({error}); name its file by --backup-token-file.") from None
    except OSError as error:
        raise fail(
            f"The backup token {place} cannot be read ({error.strerror}); copy backup.token from the collector's "
            f"data_dir, and name the copy by --backup-token-file or {TOKEN_VARIABLE}."
        ) from None


@contextmanager
def _request(api: Api, headers: dict[str, str]) -> Iterator[Callable[[], bytes]]:
    """What gives the next bytes of the answer. Raises typer.Exit with its sentence said."""
    import httpx

    try:
        with (
            httpx.Client(timeout=_SECONDS, verify=api.make_trust()) as client,
            client.stream("GET", api.make_address("backup"), headers={**api.make_headers(), **headers}) as response,
        ):
            if response.is_error:
                response.read()
                kind = response.headers.get("content-type", "")
                detail = str(response.json().get("detail", "")) if "json" in kind else ""
                raise fail(api.explain_refusal(response.status_code, detail))
            parts = response.iter_raw()
            yield lambda: next(parts, b"")
    except httpx.RemoteProtocolError:
        raise fail("The collector ended the backup before it was whole; its log says why.") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise fail(api.explain_failure(error)) from None


class _Copying:
    """A file to read whose bytes are written into another."""

    def __init__(self, read: Callable[[], bytes], output: IO[bytes]) -> None:
        self._read, self._output = read, output
        self._buffer = bytearray()

    def read(self, size: int) -> bytes:
        """So many bytes, and fewer at the end alone."""
        while len(self._buffer) < size and (part := self._read()):
            self._output.write(part)
            self._buffer += part
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found
