"""Makes the Secrets of an installation in Kubernetes that do not exist yet: the authority and the tokens.

The chart runs it once in a Job before its Pods (`apidae certificates create-secrets`), so that a rendering holds no
secret and two renderings are equal. What exists is kept: only missing keys are added, and never a value replaced.

A Secret that an earlier chart rendered belongs to its release, and `helm upgrade` deletes what the next rendering does
not have. The annotation `helm.sh/resource-policy: keep` of the object in the cluster prevents that.
"""

import base64
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from collector.core.keys import TOKEN_BYTES
from collector.trust.authority import make_authority, write_certificates, write_key
from common.kubernetes.objects import Part
from common.kubernetes.reflector import ApiError, OpenClient, ask

CERTIFICATE_KEY: Final = "ca.crt"
PRIVATE_KEY: Final = "ca.key"
TOKEN_KEYS: Final = ("sensor-token", "api-token")
_LABELS: Final = {"app.kubernetes.io/name": "apidae", "app.kubernetes.io/part-of": "apidae"}
_KEEP: Final = {"helm.sh/resource-policy": "keep"}
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404


class _Metadata(Part, frozen=True, kw_only=True):
    annotations: dict[str, str] | None = None


class _Object(Part, frozen=True, kw_only=True):
    """A Secret or ConfigMap; `data` as the API has it, of a Secret in base64."""

    metadata: _Metadata = _Metadata()
    data: dict[str, str] | None = msgspec.field(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretNames:
    """What is to exist in `namespace`; nothing is done for an empty name. The ConfigMap holds the authority's
    certificate, for a Gateway, and no secret."""

    namespace: str
    authority: str = ""
    authority_config_map: str = ""
    tokens: str = ""


async def create_secrets(
    open_client: OpenClient, names: SecretNames, *, now: float, validity_seconds: float
) -> tuple[str, ...]:
    """The names of what was made or completed. `now` in unix seconds. Raises AccessError and ApiError."""
    changed: list[str] = []
    if names.authority:
        path = f"/api/v1/namespaces/{names.namespace}/secrets"
        data, is_new = await _complete(
            open_client,
            *(path, "Secret", names.authority, (CERTIFICATE_KEY, PRIVATE_KEY)),
            lambda _: _make_authority(now, validity_seconds),
        )
        changed += [f"Secret {names.authority}"] * is_new
        if names.authority_config_map:
            certificate = base64.b64decode(data[CERTIFICATE_KEY]).decode()
            path = f"/api/v1/namespaces/{names.namespace}/configmaps"
            if await _write_config_map(open_client, path, names.authority_config_map, {CERTIFICATE_KEY: certificate}):
                changed.append(f"ConfigMap {names.authority_config_map}")
    if names.tokens:
        path = f"/api/v1/namespaces/{names.namespace}/secrets"
        _, is_new = await _complete(
            open_client,
            *(path, "Secret", names.tokens, TOKEN_KEYS),
            lambda missing: {key: _encode(secrets.token_urlsafe(TOKEN_BYTES).encode()) for key in missing},
        )
        changed += [f"Secret {names.tokens}"] * is_new
    return tuple(changed)


async def _complete(
    open_client: OpenClient,
    path: str,
    kind: str,
    name: str,
    keys: tuple[str, ...],
    make: Callable[[tuple[str, ...]], Mapping[str, str]],
) -> tuple[Mapping[str, str], bool]:
    """The data of an object that has all `keys`, and whether something was missing."""
    found = await _find(open_client, f"{path}/{name}")
    data = {} if found is None else found.data or {}
    missing = tuple(key for key in keys if not data.get(key))
    if found is None:
        made = make(keys)
        try:
            await ask(open_client, path, _Object, _write(kind, name, made))
            return made, True
        except ApiError as error:
            if error.status != _CONFLICT:
                raise
        return await _complete(open_client, path, kind, name, keys, make)  # Another Job was first.
    whole = {**data, **make(missing)} if missing else data
    if missing or not _KEEP.items() <= (found.metadata.annotations or {}).items():
        patch = {"metadata": {"annotations": _KEEP}, "data": whole}
        await ask(open_client, f"{path}/{name}", _Object, patch, method="PATCH")
    return whole, bool(missing)


async def _write_config_map(open_client: OpenClient, path: str, name: str, data: Mapping[str, str]) -> bool:
    """Brings a ConfigMap to this content; says whether it had another."""
    found, is_new = await _complete(open_client, path, "ConfigMap", name, tuple(data), lambda _: data)
    if found == data:
        return is_new
    await ask(open_client, f"{path}/{name}", _Object, {"data": data}, method="PATCH")
    return True


async def _find(open_client: OpenClient, path: str) -> _Object | None:
    try:
        return await ask(open_client, path, _Object)
    except ApiError as error:
        if error.status != _NOT_FOUND:
            raise
        return None


def _write(kind: str, name: str, data: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "labels": _LABELS, "annotations": _KEEP}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": data}


def _make_authority(now: float, validity_seconds: float) -> dict[str, str]:
    """Certificate and key belong together, so both are new."""
    authority = make_authority(now, validity_seconds)
    assert authority.key is not None
    certificate, key = write_certificates((authority.certificate,)), write_key(authority.key)
    return {CERTIFICATE_KEY: _encode(certificate), PRIVATE_KEY: _encode(key)}


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()
