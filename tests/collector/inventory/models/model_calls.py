"""Calls of model APIs as sensors report them: what they counted in, rows of `schemas` out."""

from typing import Any, Final

from apidae.v1 import data_pb2, stream_pb2

from collector.receiver.schemas import SchemaRecord, convert_schemas
from tests.collector.inventory.seed import NOW

REQUEST, RESPONSE = 64, 128  # Places of a code of data.
EMAIL, NAME, JWT, DIAGNOSIS = 1, 3, 13, 48
OUTSIDE_ADDRESS: Final = "93.184.215.14"  # Of the internet, and of no cluster.


def make_use(model: str, calls: int, **given: Any) -> stream_pb2.ModelUse:
    """Calls of `shop/agent` to a chat model, all of them read; of `given` codes of data are calls by code."""
    data = [stream_pb2.CountedNumber(number=code, count=count) for code, count in given.pop("data", {}).items()]
    about = {
        "client_workload": "shop/agent",
        "role": data_pb2.ROLE_CLIENT,
        "provider": "openai",
        "operation": "chat",
        "request_model": model,
        "response_model": model,
        "samples": calls,
        "calls": calls,
        "counted": calls,
        "input_tokens": 1_000 * calls,
        "output_tokens": 100 * calls,
        "requests_read": calls,
        "responses_read": calls,
        "first_seen_unix_seconds": int(NOW) - 600,
        "last_seen_unix_seconds": int(NOW) - 60,
        "data": data,
    }
    return stream_pb2.ModelUse(**{**about, **given})


def report_uses(
    route_id: int, *uses: stream_pb2.ModelUse, node: str = "node-a", generation: int = 1, now: float = NOW
) -> list[SchemaRecord]:
    """What a sensor reports of one route, over the wire."""
    schema = stream_pb2.Schema(
        route_id=route_id,
        part=stream_pb2.SCHEMA_PART_MODEL_USES,
        generation=generation,
        version=1,
        samples=sum(one.samples for one in uses),
        model_uses=uses,
    )
    message = stream_pb2.Schemas.FromString(stream_pb2.Schemas(schemas=[schema]).SerializeToString())
    return convert_schemas(message, node=node, boot_id="boot-1", now_unix_seconds=now)
