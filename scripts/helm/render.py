"""The chart rendered for a set of values, by real Helm and without a cluster; and the examples that are kept."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.helm.binaries import find_helm
from scripts.helm.settings_schema import CHART

EXAMPLES: Final = CHART / "ci"
RENDERED: Final = Path(__file__).parents[2] / "tests" / "data" / "chart"
KUBERNETES: Final = "1.35.0"


@dataclass(frozen=True, slots=True)
class Rendering:
    """What Helm said: its exit status, the manifests or nothing, and its errors."""

    status: int
    text: str
    errors: str


def run_helm(version: int, *arguments: str) -> Rendering:
    """Runs Helm with nothing of this machine's settings. Raises HelmMissingError."""
    helm = find_helm(version)
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [str(helm), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"HOME": home, "PATH": os.environ.get("PATH", "")},
        )
    return Rendering(status=done.returncode, text=done.stdout, errors=done.stderr)


def render(version: int, *arguments: str, kubernetes: str = KUBERNETES) -> Rendering:
    """`helm template` of the chart as the release `apidae` in the namespace `apidae`."""
    common = ("apidae", str(CHART), "--namespace", "apidae", "--kube-version", kubernetes)
    return run_helm(version, "template", *common, *arguments)


def settle(text: str) -> str:
    """The same rendering of Helm 3 and 4 (which sets one more empty line)."""
    return text.replace("\n\n---\n", "\n---\n").rstrip("\n") + "\n"


def list_examples() -> Sequence[Path]:
    """Files of values under deploy/helm/apidae/ci."""
    return sorted(EXAMPLES.glob("*-values.yaml"))


def render_example(version: int, example: Path) -> str:
    """As it is kept. Raises RuntimeError with Helm's words where it does not render."""
    done = render(version, "--values", str(example))
    if done.status:
        raise RuntimeError(f"{example.name}: {done.errors}")
    return settle(done.text)


def rendered_path(example: Path) -> Path:
    """Where the rendering of an example is kept."""
    return RENDERED / example.name.replace("-values.yaml", ".yaml")


def write_examples() -> None:
    """Brings tests/data/chart up to the chart."""
    RENDERED.mkdir(parents=True, exist_ok=True)
    for example in list_examples():
        rendered_path(example).write_text(render_example(4, example))
