"""The OpenAPI document: FastAPI's, with what every operation may answer besides what it gives."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI

from collector.api.access import HEALTH_PATHS
from collector.api.problem import MEDIA_TYPE, ProblemModel

_PROBLEM: Final = "Problem"
_SCHEME: Final = "token"
# By status: what it means, and which operations answer it.
_ANYWHERE: Final[Mapping[int, str]] = {
    408: "The body did not come in time.",
    413: "The body is too long.",
    421: "The Host header names another machine; only without authentication.",
    422: "A parameter or field that does not exist, or whose value cannot be.",
    500: "The collector failed to answer; its log says why.",
    503: "The store cannot answer, too many requests are being worked on, or it is not ready.",
}
_BEHIND_THE_TOKEN: Final[Mapping[int, str]] = {401: "No token, or the wrong one."}
_OF_SOMETHING: Final[Mapping[int, str]] = {404: "What is named does not exist."}
_OF_A_CHANGE: Final[Mapping[int, str]] = {
    403: "A browser says that another site asks.",
    404: "What is named does not exist.",
    409: "What is named is in another state than this needs.",
    415: "The body is not application/json.",
}


class DescribedApi(FastAPI):
    """An application whose description is complete."""

    def openapi(self) -> dict[str, Any]:
        """The document; made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _describe_problems(super().openapi())
        return self.openapi_schema


def _describe_problems(document: dict[str, Any]) -> dict[str, Any]:
    components = document["components"]
    components["schemas"][_PROBLEM] = ProblemModel.model_json_schema()
    components["securitySchemes"] = {_SCHEME: {"type": "http", "scheme": "bearer"}}
    # FastAPI's form of a 422, which no operation answers.
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = dict(_ANYWHERE)
            if path not in HEALTH_PATHS:
                answers |= _BEHIND_THE_TOKEN
                operation["security"] = [{_SCHEME: []}]
            if "{" in path:
                answers |= _OF_SOMETHING
            if method != "get":
                answers |= _OF_A_CHANGE
            described = {str(status): _refer(meaning) for status, meaning in sorted(answers.items())}
            operation["responses"] = {**operation["responses"], **described}
    return document


def _refer(meaning: str) -> dict[str, Any]:
    return {
        "description": meaning,
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{_PROBLEM}"}}},
    }
