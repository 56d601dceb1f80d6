"""Wire batches as a sensor would send them, for tests of the collector."""

from apidae.v1 import data_pb2

NOW = 1_800_000_000  # Unix seconds; every window of these batches begins shortly before.


def make_batch(
    *, rows: int = 3, sequence: int = 1, node: str = "node-a", boot_id: str = "boot-1", base: int = NOW - 60
) -> data_pb2.Batch:
    """`rows` rows over two routes of one service: row i has i + 1 calls and status 200, and its window begins at base
    + 10 * (i % 6).
    """
    batch = data_pb2.Batch(
        node=node,
        boot_id=boot_id,
        sequence=sequence,
        key_id=1,
        base_time_unix_seconds=base,
        strings=["", "shop.test", "GET", "users", "10.0.0.9", "shop/web", "1.1", "application/json", "POST"],
        seen_calls=sum(range(1, rows + 1)),
        lost_calls=2,
    )
    batch.services.add(workload="web", workload_kind=data_pb2.WORKLOAD_KIND_SYSTEMD_UNIT, host_name="host-a", port=8080)
    for route_id, method in ((11, 2), (12, 8)):
        route = batch.routes.add(route_id=route_id, service=0, host=1, method=method)
        route.segments.add(kind=data_pb2.SEGMENT_KIND_LITERAL, text=3)
        route.segments.add(kind=data_pb2.SEGMENT_KIND_INTEGER)
    columns = batch.rows
    for row in range(rows):
        columns.route.append(row % 2)
        columns.window_offset_seconds.append(10 * (row % 6))
        columns.window_length_seconds.append(10)
        columns.principal.append(1_000 + row)
        columns.principal_kind.append(data_pb2.PRINCIPAL_KIND_API_KEY)
        columns.credential.append(2_000 + row)
        columns.client_address.append(4)
        columns.client_workload.append(5)
        columns.authentication.append(1 << data_pb2.AUTHENTICATION_KIND_API_KEY_HEADER)
        columns.status_code.append(200)
        columns.role.append(data_pb2.ROLE_SERVER)
        columns.hop.append(data_pb2.HOP_ENDPOINT)
        columns.protocol_version.append(6)
        columns.request_content_type.append(0)
        columns.response_content_type.append(7)
        columns.flags.append(0)
        columns.calls.append(row + 1)
        columns.request_bytes.append(100 * (row + 1))
        columns.response_bytes.append(1_000 * (row + 1))
        columns.time_to_first_byte_sum_us.append(400 * (row + 1))
        columns.duration_sum_us.append(500 * (row + 1))
        columns.duration_max_us.append(900)
        columns.duration_len.append(2)
        columns.duration_bucket.extend((71, 78))
        columns.duration_count.extend((row + 1, 1))
        columns.response_size_len.append(1)
        columns.response_size_bucket.append(79)
        columns.response_size_count.append(row + 1)
        columns.objects_len.append(2)
        columns.objects_hash.extend((5_000 + row, 6_000 + row))
        columns.objects_count.append(2)
        columns.object_numeric_calls.append(row + 1)
        columns.object_monotonic_steps.append(row)
        columns.object_numeric_span.append(40)
    return batch
