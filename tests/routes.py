"""Every route of the product, with what it declares and a request that its own description calls well formed."""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from PIL import Image
from pydantic import TypeAdapter

from api import access, health
from api.v1 import intake_posts
from api.v1 import routers as v1_routers
from api.web import routers as web_routers

SIGNED_IN, ANYONE, OPEN = "whoever is signed in", "anyone", "open to all"
DEVICE = "a device, a gateway or a webhook source, by its own secret"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one address. ``declares`` is a right, or one of the words above, or None where it says nothing."""

    method: str
    path: str
    declares: str | None
    dependant: Dependant

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        """The names in the address, in order."""
        return re.findall(r"{(\w+)", self.path)

    @property
    def query(self) -> set[str]:
        """The parameters that may follow the address."""
        fields = list(_flat(self.dependant, "query_params"))
        models = [
            field.field_info.annotation for field in fields if hasattr(field.field_info.annotation, "model_fields")
        ]
        return {field.alias for field in fields} | {name for model in models for name in model.model_fields}

    @property
    def is_api(self) -> bool:
        """Whether programs ask it, and are told 401 instead of being sent to the sign-in."""
        return self.path.startswith("/api/")

    @property
    def changes(self) -> bool:
        """Whether it may change something."""
        return self.method not in {"GET", "HEAD"}


def of_the_product() -> list[Route]:
    """Return every route of pages and API."""
    app = FastAPI(openapi_url=None)
    v1 = APIRouter(prefix="/api/v1")
    for router in v1_routers():
        v1.include_router(router)
    v1.include_router(intake_posts.router)
    for router in (v1, health.router, *web_routers()):
        app.include_router(router)
    return list(of_app(app))


def of_app(app: FastAPI) -> Iterator[Route]:
    """Yield the routes of an application that FastAPI knows the parameters of."""
    for context in iter_route_contexts(app.routes):
        dependant = getattr(context, "dependant", None)
        if dependant is not None:
            for method in sorted(context.methods):
                yield Route(method, context.path, _declared(dependant), dependant)


def _declared(dependant: Dependant) -> str | None:
    calls = [one.call for one in _below(dependant)]
    rights = [call.right for call in calls if isinstance(call, access.Needs)]
    if rights:
        return rights[0]
    if access._signed_in in calls:
        return SIGNED_IN
    if access._anyone in calls:
        return ANYONE
    if intake_posts.sender in calls or intake_posts.source in calls:
        return DEVICE
    return OPEN if getattr(dependant.call, "is_open_to_all", False) else None


def _below(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for one in dependant.dependencies:
        yield from _below(one)


def request_for(route: Route, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to send, as arguments of ``httpx``: each required field, and each that ``known`` has by its name."""
    wanted: dict[str, Any] = {}
    query = {
        field.alias: sample(TypeAdapter(field.field_info.annotation).json_schema(), field.alias, known)
        for field in _flat(route.dependant, "query_params")
        if field.field_info.is_required()
    }
    if query:
        wanted["params"] = query
    bodies = [field for one in _below(route.dependant) for field in one.body_params]
    if not bodies:
        return wanted
    if any(type(field.field_info).__name__ == "Body" for field in bodies):
        [body] = bodies
        return {**wanted, "json": sample(TypeAdapter(body.field_info.annotation).json_schema(), body.alias, known)}
    form: dict[str, Any] = {}
    for field in bodies:
        if "UploadFile" in str(field.field_info.annotation):
            wanted["files"] = {field.alias: ("photo.png", _picture(), "image/png")}
        elif hasattr(field.field_info.annotation, "model_fields"):
            form |= sample(TypeAdapter(field.field_info.annotation).json_schema(), field.alias, known)
        elif field.field_info.is_required() or field.alias in known:
            form[field.alias] = sample(TypeAdapter(field.field_info.annotation).json_schema(), field.alias, known)
    return {**wanted, "data": {name: value for name, value in form.items() if value is not None}}


def _flat(dependant: Dependant, kind: str) -> Iterator[Any]:
    for one in _below(dependant):
        yield from getattr(one, kind)


def sample(  # noqa: C901, PLR0911 - one return a kind of schema
    schema: Mapping[str, Any], name: str, known: Mapping[str, Any], *, whole: Mapping[str, Any] | None = None
) -> Any:
    """Return the simplest value that a JSON schema accepts; a field named in ``known`` gets that value."""
    whole = whole or schema
    if name in known:
        return known[name]
    if "$ref" in schema:
        return sample(whole["$defs"][schema["$ref"].rpartition("/")[2]], "", known, whole=whole)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        if choice.get("type") != "null":
            return sample(choice, "", known, whole=whole)
    match schema.get("type"):
        case "object":
            required = set(schema.get("required", ())) | (schema.get("properties", {}).keys() & known.keys())
            properties = schema.get("properties", {})
            return {one: sample(properties[one], one, known, whole=whole) for one in properties if one in required}
        case "array":
            item = sample(schema.get("items", {"type": "string"}), "", known, whole=whole)
            return [item] * max(1, schema.get("minItems", 0))
        case "integer":
            return max(1, schema.get("minimum", 1))
        case "number":
            return max(1.0, schema.get("minimum", 1.0))
        case "boolean":
            return True
        case _:
            return _text(schema)


def _text(schema: Mapping[str, Any]) -> str:
    by_format = {
        "date": "2026-12-01",
        "date-time": "2026-12-01T08:00:00Z",
        "time": "08:00:00",
        "email": "a@example.com",
        "binary": "",
    }
    found = by_format.get(schema.get("format", ""), "sample")
    return found.ljust(schema.get("minLength", 0), "x")


def _picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(out, "PNG")
    return out.getvalue()
