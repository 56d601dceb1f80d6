"""The release under acceptance, as Helm knows it: upgraded with other settings, and uninstalled."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.accepting.kubernetes_client import AcceptanceError
from scripts.helm.binaries import HelmMissingError, find_helm
from scripts.helm.settings_schema import CHART

SECONDS: Final = 600.0
# The server validates what is applied; its OpenAPI document is not asked for.
APPLYING: Final = ("--wait", "--timeout=300s", "--disable-openapi-validation")
_MARK: Final = "acceptance"


def find_program() -> str:
    """Helm's path; empty where there is none."""
    if found := shutil.which("helm"):
        return found
    try:
        return str(find_helm(4))
    except HelmMissingError:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release of the chart."""

    program: str
    name: str
    namespace: str
    kubeconfig: Path
    chart: Path = CHART
    enter: tuple[str, ...] = ()  # What Helm is run behind, where the API server is in a network namespace.

    def upgrade(self) -> None:
        """To itself with other settings of both sides, so that all Pods are replaced; ready when it returns."""
        changed = [f"{side}.podAnnotations.{_MARK}=upgraded" for side in ("sensor", "collector")]
        options = [option for one in changed for option in ("--set-string", one)]
        self.run("upgrade", self.name, str(self.chart), "--reset-then-reuse-values", *APPLYING, *options)

    def test(self) -> str:
        """What `helm test` prints."""
        return self.run("test", self.name, "--timeout=180s")

    def uninstall(self) -> None:
        """All of it."""
        self.run("uninstall", self.name, "--wait")

    def run(self, *arguments: str) -> str:
        """Its output. Raises AcceptanceError."""
        command = [
            *self.enter,
            self.program,
            *arguments,
            "--namespace",
            self.namespace,
            "--kubeconfig",
            str(self.kubeconfig),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        if done.returncode:
            raise AcceptanceError(f"helm {' '.join(arguments)[:100]}: {(done.stderr or done.stdout).strip()[-600:]}")
        return done.stdout
