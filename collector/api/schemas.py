"""/endpoints/{id}/schema, /services and their documents: parameters, bodies and operations of endpoints."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import Field

from collector.api.base_model import Model
from collector.api.export_log import ExportLog
from collector.api.problem import Problem, show
from collector.inventory.endpoints.endpoint import Endpoint
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.filters import SpanParameters
from collector.schemas.evidence import HOST_PLACE, PathParameter, read_parameters
from collector.schemas.json_schema import render
from collector.schemas.merging import Part, PartSchema
from collector.schemas.openapi import build_openapi
from collector.schemas.postman import build_postman
from collector.schemas.service import EndpointSchema, SchemaInventory, list_described
from collector.storage.records import Reader


class ParameterModel(Model):
    """One parameter of a request."""

    name: str = Field(description="`{word}` and the like: names that do not leave their node.", examples=["page"])
    place: str = Field(description="path, query, header or cookie.")
    schema_: dict[str, Any] = Field(alias="schema", description="JSON Schema: type, format, closed set of values.")
    share: float | None = Field(description="Of the requests that were looked at, those that had it.")
    is_required: bool


class PathEvidenceModel(Model):
    """Why a part of the path is a parameter."""

    name: str
    place: int = Field(description="Which segment, from 0; -1: of the host.")
    kinds: dict[str, int] = Field(description="Calls by shape of the segment.")
    distinct_words: int
    distinct_objects: int | None = Field(description="Different values, an estimate; null where a path has several.")
    examples: tuple[str, ...] = Field(description="What values look like, masked.")
    why: str


class BodyModel(Model):
    """The body of requests, or of responses of one status class."""

    status_class: int = Field(description="2 for 2xx; 0: of requests.")
    media_type: str
    samples: int = Field(description="Bodies that were read.")
    left_out: int = Field(description="Values that no bound let in.")
    schema_: dict[str, Any] = Field(alias="schema", description="JSON Schema 2020-12.")


class OperationModel(Model):
    """A GraphQL operation, JSON-RPC method, MCP tool, SOAP or other action of this endpoint."""

    endpoint_id: str = Field(description="Of the operation as an endpoint of its own.")
    protocol: str = Field(description="graphql, json_rpc, mcp, soap or action.")
    kind: str
    name: str
    sampled_calls: int
    sampled_errors: int
    estimated_calls: int = Field(description="Of the endpoint's calls in the span, by its share of the samples.")


class TokenClaimModel(Model):
    """What JWTs of this endpoint say."""

    claim: str = Field(description="algorithm, issuer, audience or lifetime.")
    value: str = Field(
        description="Of an issuer or audience that is a URL its host, of others words of APIs or a pattern; of a "
        "lifetime seconds at most, `longer` than a year, `unbounded` or `unknown`."
    )
    sampled_calls: int


class EndpointSchemaModel(Model):
    """What one endpoint looks like, by samples of its calls."""

    endpoint_id: str
    parameters: tuple[ParameterModel, ...]
    path: tuple[PathEvidenceModel, ...]
    requests: tuple[BodyModel, ...]
    responses: tuple[BodyModel, ...]
    operations: tuple[OperationModel, ...]
    operation_samples: int = Field(description="Requests in which operations were looked for and found.")
    tokens: tuple[TokenClaimModel, ...] = Field(description="Without the token; weaknesses are the endpoint's.")
    token_samples: int = Field(description="Requests with a JWT that were looked at.")


_PLACES = ((Part.QUERY, "query"), (Part.HEADER, "header"), (Part.COOKIE, "cookie"))


def build_schema_routes(
    *,
    endpoints: EndpointInventory,
    schemas: SchemaInventory,
    reader: Reader,
    exports: ExportLog,
    clock: Callable[[], float],
) -> APIRouter:
    """Routes that read schemas."""
    router = APIRouter(tags=["schemas"])

    @router.get("/endpoints/{endpoint_id}/schema", summary="Show what one endpoint looks like")
    def get_schema(endpoint_id: str, parameters: Annotated[SpanParameters, Query()]) -> EndpointSchemaModel:
        """Parameters with types and shares, schemas of bodies, and operations, by samples of its calls."""
        endpoint = endpoints.find_endpoint(endpoint_id, parameters, clock()).endpoint
        path = read_parameters(reader, endpoint.path_id, endpoint.template, endpoint.host)
        operations = endpoints.list_operations(endpoint, parameters.find_span(clock()))
        return view_schema(endpoint, schemas.read_endpoint(endpoint), path, operations)

    @router.get("/services/{service:path}/openapi.json", summary="Export a service as OpenAPI 3.1")
    def get_openapi(service: str) -> JSONResponse:
        """What calls of the last 90 days showed of a service, as listed in /services or by the name of its workload."""
        return JSONResponse(_describe(service, "openapi.json"))

    @router.get("/services/{service:path}/postman.json", summary="Export a service as a Postman collection")
    def get_postman(service: str) -> JSONResponse:
        """The same as a collection of format v2.1."""
        return JSONResponse(build_postman(_describe(service, "postman.json")))

    def _describe(service: str, file: str) -> dict[str, Any]:
        described = list_described(reader, service)
        if not described:
            raise Problem(
                404, f"No endpoint of a service {show(service)} was served in 90 days; look it up in /api/v1/services."
            )
        exports.note("document", f"{service}/{file}", endpoints=len(described))
        ids = [one.id for one in described]
        return build_openapi(service, described, schemas.read_many(ids), schemas.read_operations(ids))

    return router


def view_schema(
    endpoint: Endpoint, schema: EndpointSchema, path: tuple[PathParameter, ...], operations: Iterable[Endpoint]
) -> EndpointSchemaModel:
    """`operations`: those that share its path, as endpoints."""
    return EndpointSchemaModel(
        endpoint_id=endpoint.id,
        parameters=(
            *(
                ParameterModel(name=one.name, place="path", schema_=one.schema, share=1.0, is_required=True)
                for one in path
                if one.place != HOST_PLACE
            ),
            *(one for part, place in _PLACES for one in _view_parameters(schema.find(part), place)),
        ),
        path=tuple(PathEvidenceModel.model_validate(one) for one in path),
        requests=tuple(_view_body(one) for one in schema.parts if one.part is Part.REQUEST_BODY),
        responses=tuple(_view_body(one) for one in schema.parts if one.part is Part.RESPONSE_BODY),
        operations=tuple(_view_operation(one) for one in operations),
        operation_samples=schema.operation_samples,
        tokens=tuple(TokenClaimModel.model_validate(one) for one in schema.tokens),
        token_samples=schema.token_samples,
    )


def _view_operation(one: Endpoint) -> OperationModel:
    assert one.operation is not None
    return OperationModel(
        endpoint_id=one.id,
        protocol=one.operation.protocol,
        kind=one.operation.kind,
        name=one.operation.name,
        sampled_calls=one.operation.sampled_calls,
        sampled_errors=one.operation.sampled_errors,
        estimated_calls=one.calls,
    )


def _view_parameters(parts: tuple[PartSchema, ...], place: str) -> list[ParameterModel]:
    return [
        ParameterModel(
            name=name,
            place=place,
            schema_=render(node),
            share=node.share(one.root) if not name.startswith("{") else None,
            is_required=node.is_required(one.root) and not name.startswith("{"),
        )
        for one in parts
        for name, node in sorted(one.root.children.items())
    ]


def _view_body(one: PartSchema) -> BodyModel:
    return BodyModel(
        status_class=one.status_class,
        media_type=one.media_type,
        samples=one.samples,
        left_out=one.left_out,
        schema_=render(one.root),
    )
