"""The fenced blocks of all pages, how each is tried, and which commands no test runs, with the reason.

A block without a language holds commands of a shell, as `sh`, `bash` and `console` do; one of `console` shows their
output too. tests/console/test_documented.py runs the commands, tests/scripts/test_documented_blocks.py the rest."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Final

from tests.test_docs import ROOT, list_pages

FENCE: Final = re.compile(r"^( *)(`{3,}|~{3,})([^\n]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_CONTINUED: Final = re.compile(r"\\\n\s*|(?<=\|)\n\s*")
# `$ ` of a shell, and `web-7$ ` where it matters on which host.
_PROMPT: Final = re.compile(r"^[\w-]*\$ +")
SHELL: Final = frozenset({"", "sh", "bash", "console"})
OTHERS: Final = frozenset({"python", "html", "toml", "yaml", "json", "jinja", "ini", "sql", "promql"})
SHOWN: Final = frozenset({"text", "mermaid"})  # Pictures, and what a command prints.
ROUTES: Final = "docs/reference/routes/"  # tests/console/test_routes.py runs these commands.
HISTORY: Final = frozenset({"CHANGELOG.md"})

_CHECKOUT: Final = "makes the checkout that the tests run in"
_CLUSTER: Final = "needs a cluster"
_RENDERED: Final = "test_documented_helm_commands_render"
_BUILD: Final = "needs a builder or a registry of images"
_HOST: Final = "changes the host, as root"
_KERNEL: Final = "needs root and the kernel"
_SERVES: Final = "runs until it is stopped"
# By page and by how the command begins: why it does not run here, or the test that runs it.
NOT_RUN: Final[dict[str, dict[str, str]]] = {
    "README.md": {
        "git clone": _CHECKOUT,
        "scripts/run --demo": "test_the_demo_shows_leak_attacks_services_and_a_block",
        "scripts/test": "runs the tests, this one too",
    },
    "docs/internals/kernels.md": {"scripts/test --vm": "takes minutes in an emulated machine"},
    "docs/use/agents.md": {"pip install": "needs a package index; scripts/setup installs the same"},
    "docs/use/backup.md": {"kubectl": _CLUSTER},
    "docs/use/capture-report.md": {"tcpdump": _KERNEL},
    "docs/use/first-hour.md": {
        "git clone": _CHECKOUT,
        "scripts/run --demo": "test_the_demo_shows_leak_attacks_services_and_a_block",
        "scripts/run --http-listen": _KERNEL,
        "python3 -m http.server": _SERVES,
        "for i in": "needs the server of the block above it",
    },
    "docs/use/tls.md": {"kubectl": _CLUSTER},
    "docs/use/kubernetes.md": {"helm": _RENDERED, "kubectl": _CLUSTER},
    "docs/use/plain-hosts.md": {
        "git clone": _CHECKOUT,
        "ln -s": _HOST,
        "useradd": _HOST,
        "install -d": _HOST,
        "sudo -u apidae apidae collector": _SERVES,
        "sudo apidae preflight": "test_this_node_can_be_captured",
        "sudo apidae enroll": "test_off_loopback_certificates_are_the_default",
        "sudo apidae sensor": _KERNEL,
    },
    "docs/use/platforms.md": {
        "helm": _RENDERED,
        **dict.fromkeys(("kubectl", "kind", "minikube", "k3s", "oc"), _CLUSTER),
    },
    "docs/use/preflight.md": {"sudo apidae preflight": "test_this_node_can_be_captured"},
    "docs/use/replay.md": {"tcpdump": _KERNEL},
    "docs/use/troubleshooting.md": {
        "sudo apidae trace": "test_a_call_is_followed_from_the_kernel_to_the_tables",
        "kubectl": _CLUSTER,
    },
    "docs/use/privacy.md": {"apidae erase": "test_one_goes_from_every_byte_and_the_others_stay"},
    "images/README.md": {
        "scripts/compile": _KERNEL,
        "scripts/images": "scripts/test --full runs it, as root",
        **dict.fromkeys(("docker", "ctr", "podman", "skopeo"), _BUILD),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block. `page`: from the root of the checkout. `line`: of its first fence."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Of a shell, each in one line, without comments; of `console` those behind a prompt."""
        lines = [line.strip() for line in _CONTINUED.sub(" ", self.text).splitlines()]
        if self.language == "console":
            return [_PROMPT.sub("", line) for line in lines if _PROMPT.match(line)]
        return [line for line in lines if line and not line.startswith("#")]

    @property
    def printed(self) -> list[str]:
        """What the commands of `console` print."""
        return [line.strip() for line in self.text.splitlines() if not _PROMPT.match(line)]


def list_blocks(page: Path) -> Iterator[Block]:
    """All of a page, in their order."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        yield Block(
            page=page.relative_to(ROOT).as_posix(),
            line=text.count("\n", 0, found.start()) + 1,
            language=found[3].strip(),
            text=dedent(found[4]),
        )


def find_reason(page: str, command: str) -> str:
    """Why this command does not run in a test; empty for one that does."""
    rows = NOT_RUN.get(page, {})
    return next((reason for start, reason in rows.items() if command.startswith(start)), "")


PAGES: Final = tuple(page for page in list_pages() if page.name not in HISTORY)
BLOCKS: Final = tuple(block for page in PAGES for block in list_blocks(page))
