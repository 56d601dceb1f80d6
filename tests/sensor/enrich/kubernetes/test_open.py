"""When the API server is asked at all."""

from pathlib import Path

import pytest

from sensor.core.config import SensorSettings
from sensor.enrich.kubernetes.open import open_cluster

POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}


@pytest.mark.parametrize(
    ("settings", "environment", "expected"),
    [
        ({}, {}, False),
        ({}, POD, True),
        ({"kubeconfig": "/etc/kubeconfig"}, {}, True),
        ({"kubernetes": "off", "kubeconfig": "/etc/kubeconfig"}, POD, False),
        ({"kubernetes": "on"}, {}, True),
    ],
)
def test_use(settings: dict[str, str], environment: dict[str, str], expected: bool) -> None:
    made = SensorSettings(collector="127.0.0.1:1", node="n1", **settings)  # type: ignore[arg-type]
    assert (open_cluster(made, environment) is not None) is expected


def test_a_plain_host_does_not_load_the_client() -> None:
    import subprocess
    import sys

    code = "import sensor.agent.compose, sys; sys.exit(bool({'lightkube', 'httpx2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[4], check=False).returncode == 0
