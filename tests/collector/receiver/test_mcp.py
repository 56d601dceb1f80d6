"""States of MCP servers from the wire: their size is bounded, whatever a sensor sends."""

import json

from apidae.v1 import stream_pb2

from collector.receiver.mcp import STATE_LIMIT_CHARACTERS, write_server


def make_item(kind: int, number: int) -> stream_pb2.McpItem:
    """One with as many arguments as a sensor keeps, of long names."""
    arguments = [stream_pb2.McpArgument(name=f"{one:0>200}", type="string") for one in range(64)]
    return stream_pb2.McpItem(kind=kind, name=f"item_{number}", name_hash=number, arguments=arguments)  # type: ignore[arg-type]


def test_a_state_that_is_too_long_keeps_what_models_read_and_counts_the_rest() -> None:
    resources = [make_item(3, number) for number in range(400)]
    state = write_server(stream_pb2.McpServer(items=[*resources, make_item(1, 500), make_item(2, 501)]))
    assert len(state) < STATE_LIMIT_CHARACTERS + 1_000
    read = json.loads(state)
    assert [one["kind"] for one in read["items"][:3]] == [1, 2, 3]
    assert read["left_out"] == 402 - len(read["items"]) > 0
