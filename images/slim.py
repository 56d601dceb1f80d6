"""Takes out of an image that is being built what its program never reads; standard library only.

    slim.py system PACKAGE.. [--without PACKAGE..]   of Debian: keeps these packages and what they depend on
    slim.py wheels DIRECTORY SIDE                    of Python packages: tests, headers, sources of C, symbols, and
                                                     the side that this image is not for

`system` leaves no package manager, no program that runs as another user, and of Busybox the shell and what a person
looks around with. The list of packages (/var/lib/dpkg/status) then names those that are left, as scanners read it.
"""

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
INFO = ROOT / "var/lib/dpkg/info"
STATUS = ROOT / "var/lib/dpkg/status"
PYTHON = "usr/lib/python3.13"
NOT_READ = (
    # Documentation; licences stay (usr/share/doc).
    *(f"usr/share/{name}" for name in ("man", "info", "locale", "lintian", "bash-completion", "doc-base", "pixmaps")),
    *(f"usr/share/{name}" for name in ("bug", "debconf", "python3/debpython", "i18n", "gcc", "gdb")),
    # What maintainer scripts made, for packages that are gone or with the time of the build.
    *(f"var/lib/{name}" for name in ("apt", "pam", "systemd", "dpkg/info", "dpkg/alternatives", "dpkg/triggers")),
    *("var/cache", "var/log", "var/backups"),
    *(f"etc/{name}" for name in ("apt", "alternatives", "pam.d", "security", "cron.daily", "systemd", "dpkg")),
    *(f"etc/{name}" for name in ("logrotate.d", "default", "skel", "machine-id", "ld.so.cache", ".pwd.lock")),
    *(f"etc/{name}-" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")),
    # Of the C library: character sets that no program here converts, and what installs libraries.
    *(f"usr/lib/{machine}-linux-gnu/gconv" for machine in ("x86_64", "aarch64")),
    *("usr/sbin/ldconfig", "usr/bin/localedef"),
    # Of Python: what only its developers run. Of OpenSSL its command; where certificates lie is in the same package.
    *(f"{PYTHON}/{name}" for name in ("test", "pydoc_data", "ensurepip", "idlelib", "turtledemo")),
    *("usr/bin/openssl", "usr/bin/c_rehash"),
)
STATUS_LEFT = ("diversions", "statoverride", "status-old", "diversions-old", "statoverride-old", "available", "lock")
SHELL = "sh cat chown cut date df du env find grep head hostname id less ls mkdir mount netstat nslookup ps pwd"
SHELL += " readlink rm sed sleep sort stat tail tar test touch tr true uname vi wc which xargs"
# Directories and files of wheels that no program imports. pyarrow: what our store does not use of it, each a library
# of its own; the others are linked by the part that is used.
WHEEL_DIRECTORIES = ("tests", "test", "include", "__pycache__")
WHEEL_FILES = (".pyi", ".pyx", ".pxd", ".pxi", ".h", ".hpp", ".c", ".cc", ".cpp", ".a", ".lib")
OWN_PACKAGES = ("common", "sensor", "collector")  # Sources of C are compared with the programs compiled of them.
WHEEL_PATTERNS = (
    "pyarrow/*_flight*",
    *(
        f"pyarrow/_{name}*"
        for name in ("azurefs", "csv", "dataset", "feather", "gcsfs", "hdfs", "json", "orc", "parquet")
    ),
    "pyarrow/_substrait*",
    "pyarrow/libarrow_s3*",
    "pyarrow/_s3fs*",
    "pyarrow/_pyarrow_cpp_tests*",
    "pyarrow/src",
    "numpy/_core/*_tests.*",
    "numpy/_core/_simd.*",
    "numpy/_core/lib",
    "numpy/f2py",
    "pygments/lexers/[a-z]*.py",
    "pygments/formatters/[a-z]*.py",
    "pygments/styles/[!_dm]*.py",  # Left: default and monokai, which rich takes.
    "sqlalchemy/testing",
    *(f"sqlalchemy/dialects/{name}" for name in ("mssql", "mysql", "oracle")),
    *(f"authlib/integrations/{name}" for name in ("django_*", "flask_*", "sqla_*", "starlette_client")),
    "alembic/testing",
)


def read_packages(status: str) -> dict[str, dict[str, str]]:
    """The installed packages of dpkg's status file, by name, with their fields."""
    packages = {}
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): ?(.*(?:\n .*)*)", paragraph, re.MULTILINE))
        if "installed" in fields.get("Status", "").split():
            packages[fields["Package"]] = {**fields, "": paragraph.strip()}
    return packages


def find_needed(packages: dict[str, dict[str, str]], roots: list[str], without: list[str]) -> set[str]:
    """`roots` and all that they depend on and is installed. Raises SystemExit where a root is not."""
    missing = [name for name in roots if name not in packages]
    if missing:
        raise SystemExit(f"slim: not installed: {', '.join(missing)}")
    found: set[str] = set()
    left = list(roots)
    while left:
        name = left.pop()
        if name in found or name in without or name not in packages:
            continue
        found.add(name)
        asked = ",".join(packages[name].get(field, "") for field in ("Depends", "Pre-Depends"))
        left += re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9.+-]*)", asked)
    return found


def list_files(package: str) -> Iterator[Path]:
    """What a package brought, but directories."""
    for path in (*INFO.glob(f"{package}.list"), *INFO.glob(f"{package}:*.list")):
        for line in path.read_text().splitlines():
            file = ROOT / line.lstrip("/")
            if file.is_symlink() or not file.is_dir():
                yield file


def slim_system(roots: list[str], without: list[str]) -> None:
    """Of the whole root file system in which it runs."""
    packages = read_packages(STATUS.read_text())
    needed = find_needed(packages, roots, without)
    # By the real path: /lib and /bin are links into /usr, and a file may be listed by either.
    kept = {os.path.realpath(file.parent) + "/" + file.name for name in needed for file in list_files(name)}
    for name in sorted(packages.keys() - needed):
        for file in list_files(name):
            if os.path.realpath(file.parent) + "/" + file.name not in kept:
                file.unlink(missing_ok=True)
    STATUS.write_text("\n\n".join(packages[name][""] for name in sorted(needed)) + "\n\n")
    for name in STATUS_LEFT:
        (STATUS.parent / name).unlink(missing_ok=True)
    for path in NOT_READ:
        remove(ROOT / path)
    forget_dates(ROOT / "etc/shadow")
    for file in list((ROOT / "usr/share/doc").rglob("*")):
        if file.name != "copyright" and not file.is_dir():
            file.unlink()
    modules = (ROOT / "usr/lib/python3", ROOT / PYTHON)
    for place in modules:
        for cache in list(place.rglob("__pycache__")):
            remove(cache)
    remove_links(ROOT / "etc", ROOT / "usr", ROOT / "var")
    for name in SHELL.split():
        link = ROOT / "usr/bin" / name
        if not link.is_symlink() and not link.exists():
            link.symlink_to("busybox")
    compile_modules(*modules)


def forget_dates(shadow: Path) -> None:
    """Nobody has a password here, and when it was changed last is when the image was built (shadow(5), third field)."""
    lines = [line.split(":") for line in shadow.read_text().splitlines()]
    shadow.write_text("".join(":".join((*fields[:2], "", *fields[3:])) + "\n" for fields in lines))


def remove_links(*places: Path) -> None:
    """Links that lead nowhere, and directories in which nothing is left."""
    for place in places:
        for directory, names, files in os.walk(place, topdown=False):
            for name in (*names, *files):
                path = Path(directory, name)
                if path.is_symlink() and not path.exists():
                    path.unlink()
            here = Path(directory)
            # Those of a system's layout stay: programs make their files there.
            if here != place and len(here.relative_to(ROOT).parts) > 2 and not any(here.iterdir()):
                here.rmdir()


def slim_wheels(directory: Path, other_side: str) -> None:
    """Of one site-packages."""
    for pattern in (*WHEEL_PATTERNS, other_side):
        for path in list(directory.glob(pattern)):
            remove(path)
    for path in sorted(directory.rglob("*"), key=lambda path: -len(path.parts)):
        if path.relative_to(directory).parts[0] in OWN_PACKAGES:
            continue
        is_tests = path.name in WHEEL_DIRECTORIES and path.is_dir()
        if is_tests or (path.suffix in WHEEL_FILES and path.is_file()):
            remove(path)
    libraries = [path for path in sorted(directory.rglob("*.so*")) if path.is_file() and not path.is_symlink()]
    link_copies(libraries)
    for path in libraries:
        # patchelf moved what strip would cut in libraries that a wheel carries beside its own: they stay as they are.
        if not path.is_symlink() and not path.parent.name.endswith(".libs"):
            subprocess.run(["strip", "--strip-unneeded", "--preserve-dates", path], check=True)
    compile_modules(directory)


def link_copies(libraries: list[Path]) -> None:
    """A wheel cannot hold links: libraries that it holds under three names become one."""
    known: dict[tuple[Path, bytes], Path] = {}
    for path in libraries:
        first = known.setdefault((path.parent, path.read_bytes()), path)
        if first != path:
            path.unlink()
            path.symlink_to(first.name)


def compile_modules(*directories: Path) -> None:
    """Compiled modules that do not say when their source was written, and are never compared with it: an image does not
    change. Run with PYTHONHASHSEED=0, so that sets have one order."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for directory in filter(Path.is_dir, directories):
        if not compileall.compile_dir(directory, quiet=1, invalidation_mode=mode, workers=1, legacy=False):
            print(f"slim: some modules of {directory} do not compile", file=sys.stderr)


def remove(path: Path) -> None:
    """Whatever it is, or is not."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> None:
    """Reads the command line."""
    what, *rest = sys.argv[1:]
    if os.environ.get("PYTHONHASHSEED") != "0":
        raise SystemExit("slim: set PYTHONHASHSEED=0, or two builds differ")
    if what == "wheels":
        slim_wheels(Path(rest[0]), rest[1])
        return
    roots, _, without = " ".join(rest).partition(" --without ")
    slim_system(roots.split(), without.split())


if __name__ == "__main__":
    main()
