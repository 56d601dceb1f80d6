"""One question to a collector's API, and its answer; one sentence and exit 1 where there is none."""

from collections.abc import Mapping
from typing import Any

import httpx
import typer

TIMEOUT_SECONDS = 35.0  # Above the store's own limit of 30 s, so that its sentence arrives.


def fetch(
    url: str, token: str, path: str, asked: Mapping[str, str], transport: httpx.BaseTransport | None = None
) -> dict[str, Any]:
    """The JSON answer of one question; on failure prints one sentence and raises typer.Exit(1)."""
    request = {"method": "GET", "params": {name: value for name, value in asked.items() if value}}
    return _exchange(url, token, path, request, transport)


def act(
    url: str,
    token: str,
    path: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
    *,
    timeout_seconds: float | None = None,
) -> dict[str, Any]:
    """The JSON answer of a POST; fails as `fetch` does."""
    request: dict[str, Any] = {"method": "POST", "json": dict(body), "headers": headers or {}}
    if timeout_seconds is not None:
        request["timeout"] = timeout_seconds
    return _exchange(url, token, path, request, None)


def put(url: str, token: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON answer of a PUT; fails as `fetch` does."""
    return _exchange(url, token, path, {"method": "PUT", "json": dict(body)}, None)


def remove(url: str, token: str, path: str) -> dict[str, Any]:
    """The JSON answer of a DELETE; fails as `fetch` does."""
    return _exchange(url, token, path, {"method": "DELETE"}, None)


def _exchange(
    url: str, token: str, path: str, request: Mapping[str, Any], transport: httpx.BaseTransport | None
) -> dict[str, Any]:
    if not (token.isascii() and token.isprintable()):
        raise fail("The API token is not printable ASCII; correct --token or APIDAE_TOKEN.")
    if not url.startswith(("http://", "https://")):
        raise fail(f"The URL is {url!r}; it must begin with http:// or https://; set --url or APIDAE_URL.")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    headers |= request.get("headers", {})
    try:
        with httpx.Client(transport=transport, timeout=TIMEOUT_SECONDS) as client:
            response = client.request(**{**request, "headers": headers}, url=f"{url.rstrip('/')}/api/v1/{path}")
        answer = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise fail(
            f"The collector at {url} cannot be reached ({error}); start it, or set --url or APIDAE_URL."
        ) from error
    except ValueError as error:
        raise fail(f"What answers at {url} is no Apidae collector; set --url or APIDAE_URL.") from error
    if response.is_error:
        detail = answer.get("detail", "") if isinstance(answer, dict) else ""
        raise fail(f"The collector at {url} answered {response.status_code}: {detail}")
    return dict(answer)


def fail(sentence: str) -> typer.Exit:
    """Prints the sentence; the caller raises what it gets."""
    typer.echo(sentence, err=True)
    return typer.Exit(1)
