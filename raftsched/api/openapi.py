"""The OpenAPI document, drawn from the route table."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from aiohttp import web

from raftsched import __version__
from raftsched.api.context import Context
from raftsched.api.problems import CATALOGUE

#: Problems any route may answer with.
GENERAL = ("unauthorized", "forbidden-host", "no-leader", "outcome-unknown")


async def document(context: Context, request: web.Request) -> web.StreamResponse:
    """This API as OpenAPI 3.1."""
    return context.answer(build())


def build() -> dict[str, Any]:
    """The whole document."""
    from raftsched.api.routes import ROUTES

    bodies = sorted({r.body for r in ROUTES if r.body is not None}, key=lambda t: t.__name__)
    _, components = msgspec.json.schema_components(
        bodies, ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for route in ROUTES:
        operation: dict[str, Any] = {
            "summary": route.text,
            "operationId": route.handler.__module__.rpartition(".")[2]
            + "_"
            + route.handler.__name__,
            "responses": {str(route.status): {"description": "done"}},
        }
        if route.role != "none":
            operation["security"] = [{"token": []}]
        parameters = re.findall(r"{(\w+)}", route.path)
        if parameters:
            operation["parameters"] = [
                {"name": n, "in": "path", "required": True, "schema": {"type": "string"}}
                for n in parameters
            ]
        if route.body is not None:
            media = "application/x-ndjson" if route.path.endswith(":batch") else "application/json"
            schema = {"$ref": f"#/components/schemas/{route.body.__name__}"}
            operation["requestBody"] = {"content": {media: {"schema": schema}}}
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
