"""What the API answers about how endpoints look, as pydantic models."""

from typing import Any

from pydantic import Field

from collector.api.base_model import Model


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
    """A GraphQL operation, JSON-RPC method, MCP tool or SOAP action of this endpoint."""

    endpoint_id: str = Field(description="Of the operation as an endpoint of its own.")
    protocol: str = Field(description="graphql, json_rpc, mcp or soap.")
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


class ServiceModel(Model):
    """A service that has endpoints."""

    service: str
    cluster: str
    namespace: str
    workload: str
    port: int
    endpoints: int


class ServicePageModel(Model):
    """All of them."""

    items: tuple[ServiceModel, ...]
