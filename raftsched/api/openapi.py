"""The OpenAPI document, drawn from the route table."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from aiohttp import web

from raftsched import __version__
from raftsched.api.context import Context
from raftsched.api.parameters import PARAMETERS
from raftsched.api.problems import CATALOGUE

#: Problems any route may answer with.
GENERAL = ("unauthorized", "forbidden-host", "no-leader", "outcome-unknown")


async def document(context: Context, request: web.Request) -> web.StreamResponse:
    """This API as OpenAPI 3.1."""
    return context.answer(build())


def build() -> dict[str, Any]:
    """The whole document."""
    from raftsched.api.routes import ROUTES

    types = {kind for r in ROUTES for kind in (r.body, r.answer)} - {None, msgspec.Raw}
    _, components = msgspec.json.schema_components(
        sorted(types, key=lambda kind: kind.__name__), ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for route in ROUTES:
        operation: dict[str, Any] = {
            "summary": route.text,
            "operationId": route.operation_id,
            "responses": {str(route.status): _success(route.answer)},
        }
        if route.role != "none":
            operation["security"] = [{"token": []}]
        parameters: list[dict[str, Any]] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", route.path)
        ]
        for name in route.query:
            text, schema = PARAMETERS[name]
            parameters.append({"name": name, "in": "query", "description": text, "schema": schema})
        if parameters:
            operation["parameters"] = parameters
        if route.body is not None:
            media = "application/x-ndjson" if route.path.endswith(":batch") else "application/json"
            operation["requestBody"] = {"content": {media: {"schema": _reference(route.body)}}}
        for code in (*route.problems, *GENERAL):
            status = str(CATALOGUE[code].status)
            operation["responses"].setdefault(
                status, {"description": CATALOGUE[code].title, "$ref": "#/components/responses/P"}
            )
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "raftsched", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                "P": {
                    "description": "RFC 9457 problem document",
                    "content": {"application/problem+json": {"schema": {"type": "object"}}},
                }
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _reference(kind: Any) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _success(kind: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "done"}
    if kind is not None:
        schema = {} if kind is msgspec.Raw else _reference(kind)
        answer["content"] = {"application/json": {"schema": schema}}
    return answer
