"""Looks for a program's name in the files of its process: its package, the manifest of its jar, its web application.

The files are found through the process's directory in /proc, and are whatever its user likes
(`sensor.enrich.user_files`).
"""

from pathlib import Path, PurePosixPath
from typing import Final

from sensor.enrich.file_contents import read_jar_title, read_package_name
from sensor.enrich.user_files import ReadFile, UserTree, find_payer

_COMMON_DIRECTORIES: Final = frozenset(
    ("", "app", "bin", "code", "dist", "home", "opt", "root", "src", "srv", "tmp", "usr")
)
_OWN_WEBAPPS: Final = frozenset(("ROOT", "docs", "examples", "host-manager", "manager"))
_WEBAPPS_MAX: Final = 64  # Of more than one of its own, none is the server's name.
_PARENTS_MAX: Final = 4  # Directories from a script up to its package.json.


class ProgramFiles:
    """The files of a process, through its directory in /proc. Whoever runs the process may have made them
    (`sensor.enrich.user_files`): an error is an empty answer."""

    def __init__(self, read: ReadFile, process: Path, cgroup: str) -> None:
        """`process` is its directory in /proc; whoever has its cgroup pays for the reading."""
        self._process, self._read, self._payer = process, read, find_payer(cgroup)
        self._tree = UserTree(process / "root", process / "mountinfo")

    def find_directory(self) -> str:
        """The name of its working directory; empty where that says nothing."""
        name = self._find_working_directory().name
        return "" if name in _COMMON_DIRECTORIES else name

    def find_package(self, script: str) -> str:
        """The name in the package.json that is nearest above a script of Node.js, or above the working directory. A
        command in node_modules/.bin is a link to the script of its package."""
        place = PurePosixPath(self._tree.resolve(str(self._find_working_directory() / (script or "x"))))
        for directory in list(place.parents)[:_PARENTS_MAX]:
            name = self._read(self._tree, f"{directory}/package.json", read_package_name, payer=self._payer)
            if name:
                return name
        return ""

    def read_title(self, jar: str) -> str:
        """The Implementation-Title of a jar; empty where it has none."""
        path = str(self._find_working_directory() / jar)
        return self._read(self._tree, path, read_jar_title, payer=self._payer) or ""

    def list_webapps(self, base: str) -> list[str]:
        """Applications in the directory `webapps` of a server of servlets, without those it comes with."""
        try:
            entries = self._tree.list_names(f"{base}/webapps", _WEBAPPS_MAX)
        except OSError:
            return []
        return sorted({entry.removesuffix(".war") for entry in entries} - _OWN_WEBAPPS)

    def _find_working_directory(self) -> PurePosixPath:
        try:
            return PurePosixPath((self._process / "cwd").readlink())
        except OSError:
            return PurePosixPath("/")
