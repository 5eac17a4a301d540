"""GET /swagger.json: the service described in OpenAPI 2.0, 3.0 and 3.1, with the schema of the script's decorators.

A file swagger.json (2.0), swagger2.json, swagger3.json or swagger3.1.json beside the script replaces what would be
made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway_serving.binding import Run, schema_util

ALIASES = {"2": "2", "2.0": "2", "3": "3", "3.0": "3", "3.1": "3.1"}
FILES = {"2": ("swagger.json", "swagger2.json"), "3": ("swagger3.json",), "3.1": ("swagger3.1.json",)}
FULL_VERSIONS = {"2": "2.0", "3": "3.0", "3.1": "3.1"}
ERROR_TEXT = "The service failed to execute due to an error."
V2_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}},
    },
}


class SwaggerError(Exception):
    """There is no description in the version that was asked for."""


def describe(
    version: str, run: Run, service: str, service_version: str, prefix: str, roots: list[Path], models: list[str]
) -> Any:
    """The description; `models` are V2's names. Raises SwaggerError, which lists the versions there are."""
    util = schema_util(run)
    known = list(FULL_VERSIONS.values()) if util is None else util.get_supported_versions(run)
    supported = sorted(short for short, full in FULL_VERSIONS.items() if full in known)
    if version not in ALIASES:
        raise SwaggerError(f"Swagger version [{version}] is not valid. Supported versions: [{', '.join(supported)}].")
    wanted = ALIASES[version]
    for path in (root / name for root in roots for name in FILES[wanted]):
        if path.is_file():
            try:
                return json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise SwaggerError(f"{path.name} beside the script is not JSON: {error}.") from None
    if wanted not in supported:
        raise SwaggerError(
            f"Swagger version [{version}] is not supported for the scoring script. "
            f"Supported swagger versions: [{', '.join(supported)}]."
        )
    if util is None:
        schemas = {
            "ServiceInput": {"type": "object", "example": {}},
            "ServiceOutput": {"type": "object", "example": {}},
        }
    else:
        schemas = {"ServiceInput": util.get_input_schema(run), "ServiceOutput": util.get_output_schema(run)}
    schemas["ErrorResponse"] = {"type": "object", "properties": {"message": {"type": "string"}}}
    info = {
        "title": service,
        "description": f"API specification for the Azure Machine Learning service {service}",
        "version": service_version,
    }
    if wanted == "2":
        return _version_2(info, schemas, prefix)
    return _version_3("3.0.3" if wanted == "3" else "3.1.0", info, schemas, prefix, models)


def _version_2(info: dict[str, Any], schemas: dict[str, Any], prefix: str) -> dict[str, Any]:
    def answers(text: str, schema: dict[str, Any]) -> dict[str, Any]:
        error = {"description": ERROR_TEXT, "schema": {"$ref": "#/definitions/ErrorResponse"}}
        return {"200": {"description": text, "schema": schema}, "default": error}

    health = answers("The service is up; the content is 'Healthy'.", {"type": "string"})
    health["200"]["examples"] = {"application/json": "Healthy"}
    body = {"name": "serviceInputPayload", "in": "body", "schema": {"$ref": "#/definitions/ServiceInput"}}
    return {
        "swagger": "2.0",
        "info": info,
        "schemes": ["https"],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "securityDefinitions": {
            "Bearer": {
                "type": "apiKey",
                "name": "Authorization",
                "in": "header",
                "description": "For example: Bearer abc123",
            }
        },
        "paths": {
            f"{prefix}/": {"get": {"operationId": "ServiceHealthCheck", "responses": health}},
            f"{prefix}/score": {
                "post": {
                    "operationId": "RunMLService",
                    "description": "Run web service's model and get the prediction output",
                    "security": [{"Bearer": []}],
                    "parameters": [body],
                    "responses": answers("The prediction.", {"$ref": "#/definitions/ServiceOutput"}),
                }
            },
            f"{prefix}/swagger.json": {
                "get": {
                    "operationId": "GetSwaggerSpec",
                    "parameters": [
                        {"name": "version", "in": "query", "required": False, "type": "string", "enum": list(ALIASES)}
                    ],
                    "responses": answers("The Swagger specification.", {"type": "object"}),
                }
            },
        },
        "definitions": schemas,
    }


def _version_3(
    version: str, info: dict[str, Any], schemas: dict[str, Any], prefix: str, models: list[str]
) -> dict[str, Any]:
    def content(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"content": {kind: {"schema": schema}}}

    def answers(text: str, kind: str, schema: dict[str, Any], error: str = "ErrorResponse") -> dict[str, Any]:
        failed = content("application/json", {"$ref": f"#/components/schemas/{error}"})
        return {"200": {"description": text, **content(kind, schema)}, "default": {"description": ERROR_TEXT, **failed}}

    def operation(name: str, responses: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"operationId": name, "responses": responses, **more}

    status = {"type": "object", "properties": {"status": {"type": "string"}, "revision": {"type": "string"}}}
    v2_body = {"required": True, **content("application/json", {"$ref": "#/components/schemas/InferenceRequest"})}
    name_parameter = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "enum": models}}
    version_parameter = {
        "name": "version",
        "in": "query",
        "required": False,
        "schema": {"type": "string", "enum": list(ALIASES)},
    }
    inference = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "minItems": 1, "items": V2_TENSOR},
            "outputs": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        },
    }
    v2_error = {"type": "object", "properties": {"error": {"type": "string"}}}
    score_body = {
        "description": "The input payload for executing the real-time machine learning service.",
        **content("application/json", {"$ref": "#/components/schemas/ServiceInput"}),
    }
    paths = {
        "/": {"get": operation("ServiceHealthCheck", answers("The service is up.", "text/plain", {"type": "string"}))},
        "/ready": {"get": operation("ServiceReadiness", answers("Ready to score.", "application/json", status))},
        "/score": {
            "post": operation(
                "RunMLService",
                answers("The prediction.", "application/json", {"$ref": "#/components/schemas/ServiceOutput"}),
                description="Run web service's model and get the prediction output",
                security=[{"Bearer": []}],
                requestBody=score_body,
            )
        },
        "/swagger.json": {
            "get": operation(
                "GetSwaggerSpec",
                answers("This description.", "application/json", {"type": "object"}),
                parameters=[version_parameter],
            )
        },
        "/v2": {
            "get": operation(
                "V2Server", answers("The server.", "application/json", {"type": "object"}, "InferenceError")
            )
        },
        "/v2/models/{model}": {
            "get": operation(
                "V2Model",
                answers("The model.", "application/json", {"type": "object"}, "InferenceError"),
                parameters=[name_parameter],
            )
        },
        "/v2/models/{model}/infer": {
            "post": operation(
                "V2Infer",
                answers("The output tensors.", "application/json", {"type": "object"}, "InferenceError"),
                parameters=[name_parameter],
                security=[{"Bearer": []}],
                requestBody=v2_body,
            )
        },
    }
    bearer = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": version,
        "info": info,
        "paths": {f"{prefix}{path}": item for path, item in paths.items()},
        "components": {
            "schemas": {**schemas, "InferenceRequest": inference, "InferenceError": v2_error},
            "securitySchemes": {"Bearer": bearer},
        },
    }
