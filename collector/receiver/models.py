"""Writes what sensors send about calls of model APIs as the JSON of a row of `schemas`. It is bounded and never raises.

`collector/inventory/models/states.py` reads it. A caller is written as consumers are called, as in
collector/receiver/mcp.py, so that an erasure finds it (collector/erasure.py): one object a use, with no object in it.
"""

import json
import re
from collections.abc import Iterable
from typing import Final

from apidae.v1 import data_pb2, stream_pb2

from collector.core.kinds import ConsumerKind
from collector.receiver.columns import NAME_LIMIT_BYTES

USE_LIMIT: Final = 512  # Of one route of one process and generation.
STATE_LIMIT_CHARACTERS: Final = 1 << 20  # Of the JSON of all of them: 512 with the kinds of data a sensor keeps.
NUMBERS_LIMIT: Final = 128
OTHER: Final = "_OTHER"  # As OpenTelemetry names a value that may not be reported.
_COUNT_LIMIT: Final = 2**48 - 1  # Sums of many rows fit 64 bits.
_BITS_MAX: Final = 2**32 - 1
_CODE_MAX: Final = 2**16 - 1
_ADDRESS_LIMIT: Final = 64
_MODEL: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,128}\Z")
_WORD: Final = re.compile(r"[A-Za-z0-9._-]{1,32}\Z")
_ROLES: Final = frozenset({data_pb2.ROLE_SERVER, data_pb2.ROLE_CLIENT})
# By their names on the wire.
COUNTS: Final = (
    *("samples", "calls", "errors", "streamed", "counted", "input_tokens", "output_tokens", "cache_read_tokens"),
    *("cache_creation_tokens", "reasoning_tokens", "requests_read", "responses_read", "url_keys"),
)


def write_model_uses(uses: Iterable[stream_pb2.ModelUse]) -> str:
    """Who asked which models: the first ones that fit."""
    written: list[str] = []
    size = 2
    for use in list(uses)[:USE_LIMIT]:
        text = json.dumps(_write_use(use), separators=(",", ":"))
        size += len(text) + 1
        if size > STATE_LIMIT_CHARACTERS:
            break
        written.append(text)
    return f"[{','.join(written)}]"


def _write_use(use: stream_pb2.ModelUse) -> dict[str, object]:
    return {
        "principal": f"{ConsumerKind.PRINCIPAL}:{use.principal:016x}" if use.principal else "",
        "credential": f"{ConsumerKind.CREDENTIAL}:{use.credential:016x}" if use.credential else "",
        "client_address": _write_text(ConsumerKind.ADDRESS, use.client_address[:_ADDRESS_LIMIT]),
        "client_workload": _write_text(ConsumerKind.WORKLOAD, use.client_workload[:NAME_LIMIT_BYTES]),
        "role": use.role if use.role in _ROLES else 0,
        "provider": use.provider if _WORD.match(use.provider) else OTHER,
        "operation": use.operation if _WORD.match(use.operation) else OTHER,
        "request_model": _write_model(use.request_model),
        "response_model": _write_model(use.response_model),
        **{name: min(getattr(use, name), _COUNT_LIMIT) for name in COUNTS},
        "data": _write_counts(use.data, _CODE_MAX),
        "authentication": _write_counts(use.authentication, _BITS_MAX),
        "first_seen": min(use.first_seen_unix_seconds, _BITS_MAX),
        "last_seen": min(use.last_seen_unix_seconds, _BITS_MAX),
    }


def _write_model(name: str) -> str:
    """Empty where it is not known."""
    return name if not name or _MODEL.match(name) else OTHER


def _write_counts(counted: Iterable[stream_pb2.CountedNumber], largest: int) -> list[list[int]]:
    """Numbers, and how often each."""
    known = [one for one in list(counted)[:NUMBERS_LIMIT] if one.number <= largest]
    return [[one.number for one in known], [min(one.count, _COUNT_LIMIT) for one in known]]


def _write_text(kind: ConsumerKind, text: str) -> str:
    return f"{kind}:{text}" if text else ""
