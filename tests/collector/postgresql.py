"""A PostgreSQL server of the distribution for tests: on a socket in a temporary directory, as a user that is not
root."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USERS = ("postgres", "nobody")  # The server refuses to run as root.
# Nothing that a test wrote has to outlive it.
OPTIONS = "-c listen_addresses= -c fsync=off -c synchronous_commit=off -c full_page_writes=off"


def find_programs() -> Path | None:
    """The directory with the newest server's programs; Debian puts them on no PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if installed:
        return installed[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@contextmanager
def run_server(programs: Path, options: str = OPTIONS) -> Iterator[str]:
    """The URL of its one database."""
    who = next(pwd.getpwnam(name) for name in USERS if _is_user(name)) if os.geteuid() == 0 else None
    user = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []} if who is not None else {}
    directory = Path(tempfile.mkdtemp(prefix="apidae-pg-"))
    if who is not None:
        os.chown(directory, who.pw_uid, who.pw_gid)

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run([programs / program, *arguments], capture_output=True, text=True, cwd=directory, **user)  # type: ignore[call-overload]
        assert done.returncode == 0, f"{program}: {done.stderr or done.stdout}"

    data, log = str(directory / "data"), str(directory / "log")
    try:
        run("initdb", "-D", data, "-U", "apidae", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        run("pg_ctl", "-D", data, "-l", log, "-w", "-o", f"{options} -k {directory}", "start")
        try:
            yield f"postgresql://apidae@/postgres?host={directory}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(directory)


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
