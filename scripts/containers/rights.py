"""What the chart lets a sensor do: the capabilities in its values, and what leaves a process just these."""

from collections.abc import Sequence
from pathlib import Path

import yaml

CHART_VALUES = Path(__file__).parents[2] / "deploy/helm/apidae/values.yaml"


def read_capabilities() -> list[str]:
    """Those of the sensor by default, without CAP_: `BPF`."""
    values = yaml.safe_load(CHART_VALUES.read_text())
    return [str(name) for name in values["sensor"]["capabilities"]]


def limit_capabilities(names: Sequence[str]) -> list[str]:
    """Options of setpriv(1). Nothing is inherited: the user root has what the bounding set leaves, every other user
    nothing."""
    bounding = ",".join(["-all", *(f"+{name.lower()}" for name in names)])
    return ["--no-new-privs", "--inh-caps=-all", f"--bounding-set={bounding}"]
