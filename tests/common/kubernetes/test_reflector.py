"""One question to the API server; lists and watches are in the tests of both sides."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from common.kubernetes.objects import Metadata, Part
from common.kubernetes.reflector import ApiError, ask, open_client
from tests.cluster.api_server import ApiServer

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}


class Named(Part, frozen=True, kw_only=True):
    metadata: Metadata


class Strict(Part, frozen=True, kw_only=True):
    gone: int


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        server.put(NODE)
        yield server


def ask_node(api: ApiServer, directory: Path, kind: type[Part]) -> Part:
    connect = partial(open_client, api.write_kubeconfig(directory / "kubeconfig"))
    return asyncio.run(ask(connect, "/api/v1/nodes/n1", kind))


def test_one_object_is_read(api: ApiServer, tmp_path: Path) -> None:
    found = ask_node(api, tmp_path, Named)
    assert isinstance(found, Named) and found.metadata.name == "n1"


@pytest.mark.parametrize("status", [401, 403, 410, 500])
def test_a_refusal_has_its_status(api: ApiServer, tmp_path: Path, status: int) -> None:
    api.refuse(status)
    with pytest.raises(ApiError, match=f"answered {status}") as error:
        ask_node(api, tmp_path, Named)
    assert error.value.status == status


def test_json_is_not_shown_in_an_error(api: ApiServer, tmp_path: Path) -> None:
    """It may hold a token."""
    with pytest.raises(ApiError, match=r"of \d+ bytes, is not what") as error:
        ask_node(api, tmp_path, Strict)
    assert "metadata" not in str(error.value)


def test_a_server_that_is_away_is_named(api: ApiServer, tmp_path: Path) -> None:
    connect = partial(open_client, api.write_kubeconfig(tmp_path / "kubeconfig"))
    api.stop()
    with pytest.raises(ApiError, match="does not answer /api/v1/nodes/n1"):
        asyncio.run(ask(connect, "/api/v1/nodes/n1", Named))
