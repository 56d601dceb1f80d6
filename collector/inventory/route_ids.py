"""The routes behind an endpoint's id, as it is now: also under an id that it had before, or that of one of its
routes."""

from string import hexdigits

from collector.inventory.reader import Reader, select

ROUTE_ID_LENGTH = 16  # In hexadecimal.
# An alias goes before a route's id: both are 64 bits, and a chance equality is a matter of centuries.
_PRESENT_ID = """
SELECT endpoint_id FROM endpoint_routes FINAL
WHERE route_id = coalesce(
    (SELECT toNullable(route_id) FROM endpoint_aliases FINAL WHERE endpoint_id = {id:String} LIMIT 1), {route:UInt64})
LIMIT 1"""
_ROUTES = "SELECT route_id FROM endpoint_routes FINAL WHERE endpoint_id = {id:String} ORDER BY route_id"

# Of the service that an endpoint's routes are of, as detectors know it.
_SERVICE_ROUTES = """
SELECT route_id FROM endpoint_routes FINAL
WHERE (cluster, service) IN (
    SELECT cluster, service FROM endpoint_routes FINAL WHERE route_id IN {routes:Array(UInt64)})
ORDER BY route_id"""


def find_present_id(reader: Reader, endpoint_id: str) -> str:
    """The endpoint to which the route went that was last known under this id; empty where none was. Raises
    StoreError."""
    is_hash = len(endpoint_id) == ROUTE_ID_LENGTH and set(endpoint_id) <= set(hexdigits)
    parameters = {"id": endpoint_id, "route": int(endpoint_id, 16) if is_hash else 0}
    found = select(reader, _PRESENT_ID, parameters)
    return str(found[0]["endpoint_id"]) if found else ""


def find_route_ids(reader: Reader, endpoint_id: str) -> list[int]:
    """The routes; none where no endpoint was ever known by this id. Raises StoreError."""
    found = select(reader, _ROUTES, {"id": endpoint_id})
    if not found:
        present = find_present_id(reader, endpoint_id)
        found = select(reader, _ROUTES, {"id": present}) if present else []
    return [int(row["route_id"]) for row in found]


def find_service_route_ids(reader: Reader, endpoint_id: str) -> list[int]:
    """The routes of all endpoints of an endpoint's service; none where the endpoint is not known. Raises StoreError."""
    routes = find_route_ids(reader, endpoint_id)
    return [int(row["route_id"]) for row in select(reader, _SERVICE_ROUTES, {"routes": routes})] if routes else []
