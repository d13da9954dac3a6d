"""What /openapi.json says of the endpoints: options, bodies and answers, made from the options themselves."""

from __future__ import annotations

from typing import Any

from krypton_onnx.service.answers import MEDIA_TYPES
from krypton_onnx.service.options import ExplainOptions

_IMAGES = ("image/png", "image/jpeg", "image/tiff", "image/webp", "image/gif", "image/bmp", "application/dicom")
_BINARY = {"type": "string", "format": "binary", "minLength": 1}
ERROR = {"type": "object", "required": ["detail"], "properties": {"detail": {"type": "string"}}}
_REASONS = {
    400: "The body cannot be read, or holds no image.",
    401: "The token is missing or another.",
    403: "A page of another origin asks, or another host is meant.",
    406: "None of the formats that Accept names.",
    408: "The body took too long to arrive.",
    413: "Too many bytes or pixels.",
    415: "Not an image in a format that is read.",
    422: "An option is not possible, or not with this model and image; or the image cannot be decoded.",
    429: "The queue is full; try again after Retry-After seconds.",
    500: "An error of the service itself.",
    503: "No worker was free before the deadline, or the service is about to end.",
    504: "Nothing was computed by the deadline.",
}
_MAP = {
    "type": "object",
    "required": ["scores", "baseline", "targets", "tops", "lefts", "patch", "stride", "mode", "computed", "complete"],
    "properties": {
        "scores": {"type": "array", "description": "(targets, rows, columns); null where not computed"},
        "baseline": {"type": "array"},
        "targets": {"type": "array", "items": {"type": "integer"}},
        "tops": {"type": "array", "items": {"type": "integer"}},
        "lefts": {"type": "array", "items": {"type": "integer"}},
        "patch": {"type": "array", "items": {"type": "integer"}},
        "stride": {"type": "array", "items": {"type": "integer"}},
        "mode": {"type": "string"},
        "computed": {"type": "array"},
        "complete": {"type": "boolean"},
        "names": {"type": "array", "items": {"type": "string"}},
        "warnings": {"type": "array", "items": {"type": "string"}},
    },
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses of an endpoint that are errors, as FastAPI takes them."""
    return {
        status: {"description": _REASONS[status], "content": {"application/json": {"schema": ERROR}}}
        for status in statuses
    }


def map_answer() -> dict[int | str, dict[str, Any]]:
    """The answer of /explain."""
    content: dict[str, Any] = {
        kind.partition(";")[0]: {"schema": _BINARY if name != "html" else {"type": "string"}}
        for name, kind in MEDIA_TYPES.items()
    }
    content["application/json"] = {"schema": _MAP}
    return {200: {"description": "The map, complete or as far as the deadline let it come.", "content": content}}


def stream_answer() -> dict[int | str, dict[str, Any]]:
    """The answer of /explain/stream."""
    said = "Server-sent events: progress, refinement, restarted; at the end map, or error."
    event = {
        "type": "object", "required": ["event", "data"],
        "properties": {
            "event": {"enum": ["progress", "refinement", "restarted", "map", "error"]},
            "data": {"type": "string", "description": "A JSON object."},
        },
    }  # fmt: skip
    return {200: {"description": said, "content": {"text/event-stream": {"schema": event}}}}


def asked() -> dict[str, Any]:
    """Parameters and body of both, for openapi_extra."""
    properties = {name: _plain(one) for name, one in ExplainOptions.model_json_schema()["properties"].items()}
    form = {
        "type": "object", "required": ["image"], "additionalProperties": False,
        "properties": {"image": {**_BINARY, "description": "PNG, JPEG, TIFF, WebP, GIF, BMP or DICOM."}, **properties},
    }  # fmt: skip
    bodies: dict[str, Any] = {kind: {"schema": _BINARY} for kind in _IMAGES}
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema, "style": "form", "explode": True,
             "description": schema.get("description", "")}
            for name, schema in properties.items()
        ],
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}, **bodies}},
    }  # fmt: skip


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a field that may be None, which in a query it cannot."""
    [given] = [one for one in schema["anyOf"] if one.get("type") != "null"]
    return {**given, "description": schema.get("description", "")}
