"""Writes what sensors send about servers of the Model Context Protocol as the JSON of a row of `schemas`.

It is bounded and never raises.

`collector/inventory/mcp_states.py` reads it. Hashes are 16 hex digits. A caller is written as consumers are called, as
`address:10.0.0.9`, so that an erasure finds it (collector/erasure.py).
"""

import json
from collections.abc import Iterable

from apidae.v1 import stream_pb2

from collector.core.kinds import ConsumerKind
from collector.receiver.columns import NAME_LIMIT_BYTES

ITEM_LIMIT = 1_281  # As the sensor has, and of what follows too.
PIN_LIMIT = 8
LIST_LIMIT = 8
ARGUMENT_LIMIT = 64
USE_LIMIT = 512
VERSION_LIMIT = 8
STATE_LIMIT_CHARACTERS = 1024 * 1024  # Of the items of one server; 512 with their arguments have some 150,000.
_RESOURCES = (3, 4)  # McpItemKind of the wire.
_COUNT_LIMIT = 2**63 - 1
_BITS_MAX = 2**32 - 1
_ADDRESS_LIMIT = 64
_PIN_VERSION_MAX = 2**31 - 1  # With the key it is one number of 63 bits.


_HINTS = {stream_pb2.MCP_HINT_NO: False, stream_pb2.MCP_HINT_YES: True}


def write_server(server: stream_pb2.McpServer) -> str:
    """What a server says of itself, and what it lists."""
    items = _fit_items(server)
    return _write(
        {
            "key_id": server.key_id,
            "name": server.name[:NAME_LIMIT_BYTES],
            "version": server.version[:NAME_LIMIT_BYTES],
            "protocol_versions": [text[:NAME_LIMIT_BYTES] for text in server.protocol_versions[:VERSION_LIMIT]],
            "transports": sorted({number for number in server.transports if number})[:VERSION_LIMIT],
            "pin_version": min(server.pin_version, _PIN_VERSION_MAX),
            "items": items,
            "left_out": len(server.items) - len(items),
            "lists": [_write_list(one) for one in server.lists[:LIST_LIMIT]],
        }
    )


def _fit_items(server: stream_pb2.McpServer) -> list[dict[str, object]]:
    """What models read first, for the end of what is too long is skipped and counted."""
    items: list[dict[str, object]] = []
    left = STATE_LIMIT_CHARACTERS
    for item in sorted(server.items[:ITEM_LIMIT], key=lambda one: one.kind in _RESOURCES):
        written = _write_item(item)
        left -= len(_write(written))
        if left < 0:
            break
        items.append(written)
    return items


def _write_list(one: stream_pb2.McpList) -> dict[str, object]:
    return {
        "kind": one.kind,
        "read": min(one.read_unix_seconds, _BITS_MAX),
        "unread": min(one.unread_unix_seconds, _BITS_MAX),
        "unread_count": min(one.unread, _COUNT_LIMIT),
        "left_out": min(one.left_out, _COUNT_LIMIT),
    }


def _write_item(item: stream_pb2.McpItem) -> dict[str, object]:
    return {
        "kind": item.kind,
        "name": item.name[:NAME_LIMIT_BYTES],
        "id": _write_hash(item.name_hash),
        "description": _write_hash(item.description_hash),
        "schema": _write_hash(item.schema_hash),
        "arguments": [
            [one.name[:NAME_LIMIT_BYTES], one.type[:NAME_LIMIT_BYTES], one.is_required]
            for one in item.arguments[:ARGUMENT_LIMIT]
        ],
        # Null where the server does not say.
        "hints": [
            item.is_read_only,
            _HINTS.get(item.destructive_hint),
            _HINTS.get(item.open_world_hint),
        ],
        "first_seen": min(item.first_seen_unix_seconds, _BITS_MAX),
        "last_seen": min(item.last_seen_unix_seconds, _BITS_MAX),
        # Description, schema, first and last sight; the newest at the end.
        "pins": [
            [
                _write_hash(pin.description_hash),
                _write_hash(pin.schema_hash),
                min(pin.first_seen_unix_seconds, _BITS_MAX),
                min(pin.last_seen_unix_seconds, _BITS_MAX),
            ]
            for pin in item.pins[-PIN_LIMIT:]
        ],
        "pins_left_out": min(item.pins_left_out, _COUNT_LIMIT),
    }


def write_uses(uses: Iterable[stream_pb2.McpUse]) -> str:
    """Who used what."""
    return _write(
        [
            {
                "principal": f"{ConsumerKind.PRINCIPAL}:{_write_hash(use.principal)}" if use.principal else "",
                "credential": f"{ConsumerKind.CREDENTIAL}:{_write_hash(use.credential)}" if use.credential else "",
                "client_address": _write_text(ConsumerKind.ADDRESS, use.client_address[:_ADDRESS_LIMIT]),
                "client_workload": _write_text(ConsumerKind.WORKLOAD, use.client_workload[:NAME_LIMIT_BYTES]),
                "kind": use.item_kind,
                "id": _write_hash(use.name_hash),
                "calls": min(use.calls, _COUNT_LIMIT),
                "errors": min(use.errors, _COUNT_LIMIT),
                "answered": min(use.answered, _COUNT_LIMIT),
                "last_seen": min(use.last_seen_unix_seconds, _BITS_MAX),
            }
            for use in list(uses)[:USE_LIMIT]
        ]
    )


def _write_hash(number: int) -> str:
    return f"{number:016x}"


def _write_text(kind: ConsumerKind, text: str) -> str:
    return f"{kind}:{text}" if text else ""


def _write(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
