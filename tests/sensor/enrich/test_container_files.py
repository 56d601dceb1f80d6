"""Names and images of containers from the runtimes' files, and the short id where none tells."""

import json
from pathlib import Path

import pytest

from sensor.enrich.containers import Container, ContainerImage
from tests.sensor.enrich.fakes import read_container

ID = "0123456789abcdef" * 4
IMAGE_ID = "ab" * 32
DIGEST = "sha256:" + "cd" * 32


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_docker(data_root: Path, *, image: str = "registry.example:5000/shop/web:1.4", **columns: object) -> None:
    """The files of one container as dockerd leaves them, but for what nobody reads."""
    config = {
        "State": {"Running": True},
        "ID": ID,
        "Config": {"Image": image, "Env": ["PASSWORD=hunter2"], "Labels": {}},
        "Image": f"sha256:{IMAGE_ID}",
        "Driver": "overlay2",
        "Name": "/shop-web-1",
    }
    write(data_root / "containers" / ID / "config.v2.json", json.dumps({**config, **columns}))


def write_docker_images(data_root: Path, **repositories: dict[str, str]) -> None:
    repositories["other"] = {"other:1": "sha256:" + "ef" * 32}
    write(data_root / "image/overlay2/repositories.json", json.dumps({"Repositories": repositories}))


def write_podman(storage: Path, file_name: str = "containers.json", **columns: object) -> None:
    metadata = {"image-name": "docker.io/library/nginx:1.27", "image-id": IMAGE_ID, "name": "web", "created-at": 1}
    entry = {"id": ID, "names": ["web"], "image": IMAGE_ID, "layer": "9f", "metadata": json.dumps(metadata)}
    entries = [{"id": "f" * 64, "names": ["other"]}, {**entry, **columns}]
    write(storage / "overlay-containers" / file_name, json.dumps(entries))


@pytest.mark.parametrize("data_root", ["var/lib/docker", "var/snap/docker/common/var-lib-docker", "mnt/big/docker"])
def test_docker(tmp_path: Path, data_root: str) -> None:
    write(tmp_path / "etc/docker/daemon.json", '{"data-root": "/mnt/big/docker"}')
    write_docker(tmp_path / data_root)
    image = ContainerImage(name="registry.example:5000/shop/web", tags=("1.4",))
    assert read_container(ID, root=tmp_path) == Container(name="shop-web-1", image=image)


def test_docker_knows_the_digests_of_its_images(tmp_path: Path) -> None:
    ours = f"sha256:{IMAGE_ID}"
    data_root = tmp_path / "var/lib/docker"
    write_docker(data_root, image="nginx")
    write_docker_images(
        data_root,
        nginx={f"nginx@{DIGEST}": ours, "nginx:1.27": ours, "nginx:latest": ours, "nginx:1.26": "sha256:" + "00" * 32},
    )
    image = ContainerImage(name="nginx", tags=("latest", "1.27"), repo_digests=(f"nginx@{DIGEST}",))
    assert read_container(ID, root=tmp_path).image == image


@pytest.mark.parametrize("image", [f"sha256:{IMAGE_ID}", IMAGE_ID, IMAGE_ID[:12]])
def test_an_image_started_by_its_id_is_called_as_docker_knows_it(tmp_path: Path, image: str) -> None:
    write_docker(tmp_path / "var/lib/docker", image=image)
    assert read_container(ID, root=tmp_path) == Container(name="shop-web-1", image=None)
    write_docker_images(tmp_path / "var/lib/docker", shop={"shop:2": f"sha256:{IMAGE_ID}"})
    assert read_container(ID, root=tmp_path).image == ContainerImage(name="shop", tags=("2",))


def test_docker_with_images_in_containerd(tmp_path: Path) -> None:
    write_docker(tmp_path / "var/lib/docker", image="nginx:1.27", ImageManifest={"digest": DIGEST, "size": 1})
    image = ContainerImage(name="nginx", tags=("1.27",), repo_digests=(f"nginx@{DIGEST}",))
    assert read_container(ID, root=tmp_path).image == image


@pytest.mark.parametrize("file_name", ["containers.json", "volatile-containers.json"])
def test_podman(tmp_path: Path, file_name: str) -> None:
    storage = tmp_path / "var/lib/containers/storage"
    write_podman(storage, file_name)
    image = ContainerImage(name="docker.io/library/nginx", tags=("1.27",))
    assert read_container(ID, root=tmp_path) == Container(name="web", image=image)
    known = {"id": IMAGE_ID, "digest": DIGEST, "names": ["docker.io/library/nginx:stable", "localhost/mine:1"]}
    write(storage / "overlay-images/images.json", json.dumps([{"id": "0" * 64, "digest": "sha256:0"}, known]))
    assert read_container(ID, root=tmp_path).image == ContainerImage(
        name="docker.io/library/nginx", tags=("1.27", "stable"), repo_digests=(f"docker.io/library/nginx@{DIGEST}",)
    )


def test_podman_where_its_settings_keep_it(tmp_path: Path) -> None:
    write(tmp_path / "etc/containers/storage.conf", '[storage]\ndriver = "overlay"\ngraphroot = "/data/podman"\n')
    write_podman(tmp_path / "data/podman")
    assert read_container(ID, root=tmp_path).name == "web"


@pytest.mark.parametrize("metadata", ["", "{", "[]", "null", '{"image-name": 7}', '{"image-name": ""}', "[" * 100_000])
def test_podman_without_an_image_keeps_its_name(tmp_path: Path, metadata: str) -> None:
    write_podman(tmp_path / "var/lib/containers/storage", metadata=metadata)
    assert read_container(ID, root=tmp_path) == Container(name="web")


@pytest.mark.parametrize("text", ["[storage", "storage = 7", "[storage]\ngraphroot = 7", "\0"])
def test_settings_that_are_none_do_not_matter(tmp_path: Path, text: str) -> None:
    write(tmp_path / "etc/containers/storage.conf", text)
    write(tmp_path / "etc/docker/daemon.json", text)
    write(tmp_path / "var/lib/nerdctl/1935db59/names/default/web", ID)
    assert read_container(ID, root=tmp_path) == Container(name="web")


@pytest.mark.parametrize(
    "config", ["", "[]", "{}", "{", '{"Name": ""}', '{"Name": "/../../etc"}', '{"Name": "a b"}', '{"Name": 7, "x": [}']
)
def test_unreadable_or_unsafe_name_is_the_short_id(tmp_path: Path, config: str) -> None:
    write(tmp_path / "var/lib/docker/containers" / ID / "config.v2.json", config)
    assert read_container(ID, root=tmp_path) == Container(name=ID[:12])


@pytest.mark.parametrize("config", [None, [], {}, {"Image": 7}, {"Image": ""}, {"Image": "a b"}, {"Image": "../../x"}])
def test_an_image_that_is_none_leaves_the_name(tmp_path: Path, config: object) -> None:
    write_docker(tmp_path / "var/lib/docker", Config=config, Driver="../..", ImageManifest=[])
    assert read_container(ID, root=tmp_path) == Container(name="shop-web-1")


def test_name_that_is_no_id_names_itself(tmp_path: Path) -> None:
    assert read_container("web", root=tmp_path) == Container(name="web")
