"""One question to the API server; lists and watches are in the tests of both sides."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx2
import msgspec
import pytest

from common.kubernetes.objects import Metadata, Part
from common.kubernetes.reflector import ApiError, Reflector, Resource, _Event, ask, open_client
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


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("content", [b'{"metadata": {"name": "\xfe"}}', b'{"message": "\xfe"}', b"[" * 100_000])
def test_an_answer_that_cannot_be_decoded_is_an_error_of_the_server(status: int, content: bytes) -> None:
    def connect() -> httpx2.AsyncClient:
        answer = httpx2.MockTransport(lambda request: httpx2.Response(status, content=content))
        return httpx2.AsyncClient(transport=answer, base_url="http://api")

    with pytest.raises(ApiError):
        asyncio.run(ask(connect, "/api/v1/nodes/n1", Named))


@pytest.mark.parametrize("content", [b"7", b'{"metadata": 7}', b'{"metadata": {"name": "\xfe"}}'])
def test_an_object_that_cannot_be_decoded_ends_no_watch(content: bytes) -> None:
    put: list[Named] = []
    resource = Resource(
        name="nodes", path="/", type=Named, read=lambda raw: raw, replace=put.extend, put=put.append, remove=put.remove
    )
    reflector = Reflector(resource, lambda: httpx2.AsyncClient())
    for each in (content, b'{"metadata": {"name": "n1", "resourceVersion": "7"}}'):
        reflector._apply(_Event(type="ADDED", object=msgspec.Raw(each)))
    assert [one.metadata.name for one in put] == ["n1"]
    assert (reflector.counts.skipped, reflector._version) == (1, "7")


@pytest.mark.parametrize("drawn", [0.0, 0.999])
def test_a_kind_that_the_server_does_not_know_is_asked_for_an_hour_later_at_most_and_half_an_hour_at_least(
    drawn: float,
) -> None:
    resource = Resource(
        name="routes", path="/routes", type=Named, read=lambda raw: raw, replace=list, put=list, remove=list,
        is_required=False,
    )  # fmt: skip

    def connect() -> httpx2.AsyncClient:
        answer = httpx2.MockTransport(lambda request: httpx2.Response(404))
        return httpx2.AsyncClient(transport=answer, base_url="http://api")

    reflector = Reflector(resource, connect, draw=lambda: drawn)
    seconds = asyncio.run(reflector._follow())
    assert 1_800 <= seconds <= 3_600 and reflector.is_current


def test_a_server_that_is_away_is_named(api: ApiServer, tmp_path: Path) -> None:
    connect = partial(open_client, api.write_kubeconfig(tmp_path / "kubeconfig"))
    api.stop()
    with pytest.raises(ApiError, match="does not answer /api/v1/nodes/n1"):
        asyncio.run(ask(connect, "/api/v1/nodes/n1", Named))
