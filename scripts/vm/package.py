"""A kernel as Debian packages it, unpacked and not installed: found through this host's own apt, in other suites too.

Lists, packages and what is unpacked lie in one directory of ours; the host's apt is asked for its mirrors and otherwise
left alone.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Suites where kernels of a version are; of others the host's own are asked, and then backports, which have the newest.
_SUITES: Final = {"5.10": ("bullseye",), "6.1": ("bookworm",), "6.12": ()}
_NEWEST: Final = ("trixie-backports",)
_STABLE: Final = "trixie"
_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_OTHERS: Final = re.compile(r"-(cloud|rt)-|-(dbg|unsigned)$")
_FETCH_SECONDS: Final = 600.0


class NoKernelError(Exception):
    """No such kernel can be had here; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One unpacked kernel."""

    release: str
    image: Path
    root: Path  # Holds lib/modules.


def fetch_kernel(version: str, directory: Path, architecture: str = "amd64") -> Kernel:
    """The newest stock kernel of a version (`6.12`) for Debian's `architecture`, from `directory` where it was fetched
    before. Raises NoKernelError."""
    root = directory / version
    if not _find_images(root):
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise NoKernelError("kernels come as Debian packages, and apt-get or dpkg is missing")
        for package in _download(version, directory, architecture):
            _unpack(package, root)
    images = _find_images(root)
    if not images:
        raise NoKernelError(f"the package of kernel {version} holds no vmlinuz")
    return Kernel(release=next(root.glob("lib/modules/*")).name, image=images[0], root=root)


def _find_images(root: Path) -> list[Path]:
    """Since 6.19 it lies beside the modules."""
    return [*root.glob("boot/vmlinuz-*"), *root.glob("usr/lib/modules/*/vmlinuz")]


def choose_package(listing: str, version: str, architecture: str = "amd64") -> str | None:
    """The newest stock package of a version in the output of `apt-cache search`."""
    found = re.findall(rf"^linux-image-([0-9][0-9.+~a-z-]*-{architecture}) - ", listing, re.MULTILINE)
    names = [name for name in found if not _OTHERS.search(name)]
    fitting = [name for name in names if re.match(rf"{re.escape(version)}(?![0-9])", name)]
    newest = max(fitting, default=None, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    return f"linux-image-{newest}" if newest else None


def _download(version: str, directory: Path, architecture: str) -> list[Path]:
    own = () if architecture == "amd64" else (_STABLE,)  # Suites whose lists this host's apt does not have.
    for suites in (own, _SUITES.get(version, _NEWEST)):
        options = _options(directory, suites, architecture) if suites else []
        if suites:
            _run(["apt-get", *options, "update"])
        pattern = f"^linux-(image|binary)-[0-9].*-{architecture}$"
        listing = _run(["apt-cache", *options, "search", "--names-only", pattern])
        name = choose_package(listing, version, architecture)
        if name is not None:
            packages = directory / "packages" / version
            packages.mkdir(parents=True, exist_ok=True)
            _run(
                ["apt-get", *options, "-o", "APT::Sandbox::User=root", "download", *_split(name, listing)], cwd=packages
            )
            return sorted(packages.glob("*.deb"))
    raise NoKernelError(
        f"no package linux-image-{version}*-{architecture} in this host's suites or {', '.join(suites) or 'others'}"
    )


def _split(name: str, listing: str) -> list[str]:
    """The packages that hold what one did before 6.19."""
    release = name.removeprefix("linux-image-")
    if f"linux-binary-{release} - " not in listing:
        return [name]
    return [f"linux-binary-{release}", f"linux-modules-{release}"]


def _options(directory: Path, suites: tuple[str, ...], architecture: str) -> list[str]:
    """Options for lists of our own: the host's mirror, other suites or another architecture."""
    uris = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]).split()
    if not uris:
        raise NoKernelError("this host's apt knows no mirror of Debian")
    base = directory / "apt"
    for path in (base / "lists" / "partial", base / "archives" / "partial"):
        path.mkdir(parents=True, exist_ok=True)
    sources = base / f"{'-'.join(suites)}.list"
    sources.write_text("".join(f"deb [signed-by={_KEYRING}] {uris[0]} {suite} main\n" for suite in suites))
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/nonexistent",
        "Dir::State::lists": base / "lists",
        "Dir::Cache": base,
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
    }
    return [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]


def _unpack(package: Path, root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    _run(["dpkg", "-x", str(package), str(root)])
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")


def _run(command: list[str], cwd: Path | None = None) -> str:
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=_FETCH_SECONDS,
        ).stdout
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise NoKernelError(f"{command[0]} failed ({error.returncode}): {last}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoKernelError(f"{command[0]} failed: {error}") from error
