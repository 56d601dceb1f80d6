"""Makes the jar of the Java agent: `python -m sensor.capture.java.build`.

Needs a JDK (javac), from 11 on. What it makes runs on Java 11 and later; on Java 8 it starts and does nothing. The same
sources and the same javac give the same bytes.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import Final

SOURCES: Final = Path(__file__).parent / "src"
# Beside the sources, not kept in git; a wheel has it where it was made before (pyproject.toml).
JAR: Final = Path(__file__).parent / "apidae-java.jar"
RELEASE: Final = "11"
# What Java 8 loads of the jar (JAVA_TOOL_OPTIONS reaches every JVM of a host).
OLDEST: Final = SOURCES / "io/apidae/java/Agent.java"
OLDEST_RELEASE: Final = "8"
MANIFEST: Final = """\
Manifest-Version: 1.0
Premain-Class: io.apidae.java.Agent
Agent-Class: io.apidae.java.Agent
Can-Retransform-Classes: true

"""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # The first that a zip can name.


class BuildError(Exception):
    """The jar could not be made. One sentence."""


def build_jar(jar: Path = JAR) -> Path:
    """Compiles the sources and writes the jar. Raises BuildError."""
    javac = which("javac")
    if javac is None:
        raise BuildError("javac is not installed: apt-get install default-jdk-headless")
    with tempfile.TemporaryDirectory() as name:
        classes = Path(name)
        _compile(javac, RELEASE, classes, sorted(SOURCES.rglob("*.java")))
        _compile(javac, OLDEST_RELEASE, classes, [OLDEST])
        part = jar.with_suffix(".part")  # A JVM may have the jar open.
        with zipfile.ZipFile(part, "w") as file:
            _add(file, "META-INF/MANIFEST.MF", MANIFEST.encode())
            for path in sorted(classes.rglob("*.class")):
                _add(file, path.relative_to(classes).as_posix(), path.read_bytes())
        part.replace(jar)
    return jar


def _compile(javac: str, release: str, classes: Path, sources: Sequence[Path]) -> None:
    # `options`: newer ones announce the end of Java 8. `classfile`: Agent is older than the classes that it names.
    checks = ("-Xlint:all,-options,-classfile", "-Werror", "-g:none")
    command = [javac, "--release", release, *checks, "-cp", str(classes), "-d", str(classes), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"javac refuses the sources of the Java agent: {done.stderr.strip()}")


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    file.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)


def main() -> int:
    """Exit code."""
    try:
        print(build_jar())
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
