"""The fake API server behaves as the API's documentation says, faults included."""

import http.client
import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.cluster.api_server import ApiServer

PODS = "/api/v1/pods"
OPEN: list[HTTPConnection | HTTPResponse] = []  # Closed after each test.


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server
    while OPEN:
        OPEN.pop().close()


def make_pod(name: str, node: str = "n1", **labels: str) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": node}}


def ask(api: ApiServer, path: str, token: str | None = None, **parameters: object) -> tuple[int, dict[str, Any]]:
    response = open_url(api, path, token, **parameters)
    return response.status, json.loads(response.read())


def open_url(api: ApiServer, path: str, token: str | None = None, **parameters: object) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", api.port, timeout=60)
    headers = {"Authorization": f"Bearer {api.token if token is None else token}"}
    connection.request("GET", f"{path}?{urlencode(parameters)}", headers=headers)
    response = connection.getresponse()
    OPEN.extend((connection, response))
    return response


def read_event(response: HTTPResponse) -> tuple[str, dict[str, Any]]:
    event = json.loads(response.readline())
    return event["type"], event["object"]


def read_names(answer: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in answer["items"]]


def test_a_list_in_parts_is_of_one_revision(api: ApiServer) -> None:
    for name in ("a", "b", "c"):
        api.put(make_pod(name))
    _, first = ask(api, PODS, limit=2)
    api.put(make_pod("d"))
    _, second = ask(api, PODS, limit=2, **{"continue": first["metadata"]["continue"]})
    assert (read_names(first), read_names(second)) == (["a", "b"], ["c"])
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"] and "kind" not in first["items"][0]
    api.compact()
    status, expired = ask(api, PODS, limit=2, **{"continue": first["metadata"]["continue"]})
    assert (status, expired["reason"]) == (410, "Expired")


def test_selectors(api: ApiServer) -> None:
    api.put(make_pod("a", "n1", app="cart"))
    api.put(make_pod("b", "n2", app="cart"))
    api.put(make_pod("c", "n2", app="web"))
    assert read_names(ask(api, PODS, fieldSelector="spec.nodeName=n2")[1]) == ["b", "c"]
    assert read_names(ask(api, PODS, fieldSelector="spec.nodeName!=n2")[1]) == ["a"]
    assert read_names(ask(api, PODS, labelSelector="app=cart")[1]) == ["a", "b"]
    assert read_names(ask(api, "/api/v1/namespaces/other/pods")[1]) == []
    assert ask(api, PODS, fieldSelector="spec.node=n2")[0] == 400
    assert ask(api, "/api/v1/services", fieldSelector="spec.nodeName=n2")[0] == 400


def test_what_is_refused(api: ApiServer) -> None:
    assert ask(api, PODS, token="wrong")[0] == 401
    assert ask(api, "/api/v1/pod")[0] == 404
    assert ask(api, "/api/v1/namespaces/shop/pods/none")[0] == 404
    assert ask(api, PODS, fieldselector="a")[0] == 400
    api.forbidden.add("pods")
    assert ask(api, PODS)[0] == 403
    api.forbidden.clear()
    api.refuse(503)
    assert [ask(api, PODS)[0] for _ in range(2)] == [503, 200]
    assert [request.status for request in api.requests] == [401, 404, 404, 400, 403, 503, 200]


def test_a_watch_is_told_what_enters_and_leaves_its_selector(api: ApiServer) -> None:
    version = api.put(make_pod("old", "n2"))["metadata"]["resourceVersion"]
    watch = open_url(api, PODS, watch="true", resourceVersion=version, fieldSelector="spec.nodeName=n1")
    api.put(make_pod("a", ""))
    api.put(make_pod("a", "n1"))
    api.put(make_pod("a", "n1", app="cart"))
    api.put(make_pod("a", "n2"))
    api.put(make_pod("b", "n1"))
    api.delete(make_pod("b"))
    events = [read_event(watch) for _ in range(5)]
    assert [(kind, item["metadata"]["name"]) for kind, item in events] == [
        ("ADDED", "a"),
        ("MODIFIED", "a"),
        ("DELETED", "a"),
        ("ADDED", "b"),
        ("DELETED", "b"),
    ]
    assert events[2][1]["spec"]["nodeName"] == "n1"
    assert int(events[4][1]["metadata"]["resourceVersion"]) == api.objects.revision


def test_a_watch_resumes_and_is_bookmarked(api: ApiServer) -> None:
    version = api.put(make_pod("a"))["metadata"]["resourceVersion"]
    api.put(make_pod("b"))
    watch = open_url(api, PODS, watch="true", resourceVersion=version, allowWatchBookmarks="true")
    assert read_event(watch)[1]["metadata"]["name"] == "b"
    api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    api.bookmark()
    kind, mark = read_event(watch)
    assert (kind, mark["metadata"]["resourceVersion"]) == ("BOOKMARK", str(api.objects.revision))
    api.end_watches()
    assert watch.readline() == b""


@pytest.mark.parametrize("is_status", [False, True])
def test_a_watch_from_compacted_history_is_gone(api: ApiServer, is_status: bool) -> None:
    api.is_410_a_status = is_status
    version = api.put(make_pod("a"))["metadata"]["resourceVersion"]
    open_watch = open_url(api, PODS, watch="true", resourceVersion=version)
    api.compact()
    api.put(make_pod("b"))
    assert read_event(open_watch)[0] == "ADDED"
    watch = open_url(api, PODS, watch="true", resourceVersion=version)
    if is_status:
        assert watch.status == 410
    else:
        kind, status = read_event(watch)
        assert (kind, status["code"]) == ("ERROR", 410)


def test_a_disconnect_is_no_end_of_the_stream(api: ApiServer) -> None:
    watch = open_url(api, PODS, watch="true")
    api.disconnect()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        watch.read()


def test_watch_times_out(api: ApiServer) -> None:
    assert open_url(api, PODS, watch="true", timeoutSeconds=0).read() == b""
