"""Container names from the runtimes' files, and the short id where none tells."""

import json
from pathlib import Path

import pytest

from sensor.enrich.container_names import name_container

ID = "0123456789abcdef" * 4


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_docker(tmp_path: Path) -> None:
    write(tmp_path / "var/lib/docker/containers" / ID / "config.v2.json", json.dumps({"Name": "/shop-web-1"}))
    assert name_container(ID, root=tmp_path) == "shop-web-1"


@pytest.mark.parametrize("file_name", ["containers.json", "volatile-containers.json"])
def test_podman(tmp_path: Path, file_name: str) -> None:
    entries = [{"id": "f" * 64, "names": ["other"]}, {"id": ID, "names": ["web"]}]
    write(tmp_path / "var/lib/containers/storage/overlay-containers" / file_name, json.dumps(entries))
    assert name_container(ID, root=tmp_path) == "web"


def test_nerdctl(tmp_path: Path) -> None:
    write(tmp_path / "var/lib/nerdctl/1935db59/names/default/web", ID)
    assert name_container(ID, root=tmp_path) == "web"


@pytest.mark.parametrize(
    "config", ["", "[]", "{}", "{", '{"Name": ""}', '{"Name": "/../../etc"}', '{"Name": "a b"}', '{"Name": 7, "x": [}']
)
def test_unreadable_or_unsafe_name_is_the_short_id(tmp_path: Path, config: str) -> None:
    write(tmp_path / "var/lib/docker/containers" / ID / "config.v2.json", config)
    assert name_container(ID, root=tmp_path) == ID[:12]


def test_name_that_is_no_id_names_itself(tmp_path: Path) -> None:
    assert name_container("web", root=tmp_path) == "web"
