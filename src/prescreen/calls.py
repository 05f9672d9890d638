"""What a call of the OpenAI SDK is about to send to a model: which endpoint, which texts and images.

Whoever writes a call is the app, not the public, so its structure is trusted; what is in it is not.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from prescreen.errors import NotScreened
from prescreen.model import Image, Item
from prescreen.paths.query import Node
from prescreen.paths.walk import Walk

_INPUTS: Final[Mapping[str, Sequence[str]]] = {
    "chat/completions": ("messages", "prediction"),
    "responses": ("input", "instructions", "prompt"),
    "responses/compact": ("input", "instructions"),
    "conversations": ("items",),
    "conversations/*/items": ("items",),
    "threads": ("messages",),
    "threads/*/messages": ("content",),
    "threads/runs": ("thread", "instructions", "additional_instructions", "additional_messages"),
    "threads/*/runs": ("instructions", "additional_instructions", "additional_messages"),
    "threads/*/runs/*/submit_tool_outputs": ("tool_outputs",),
    "images/generations": ("prompt",),
    "images/edits": ("prompt", "images"),
    "images/variations": (),
    "audio/speech": ("input", "instructions"),
    "videos": ("prompt",),
    "videos/edits": ("prompt",),
    "videos/extensions": ("prompt",),
    "videos/*/remix": ("prompt",),
    "completions": ("prompt", "suffix"),
}
"""By endpoint, the members of a call's body that the model reads as its input. `*` is an id."""

_BY_LENGTH: Final = sorted(_INPUTS, key=lambda name: -name.count("/"))  # "chat/completions" is no "completions"

# What messages and items say of themselves, as OpenAI's API reference has it: not what anyone said.
_STRUCTURE: Final = frozenset(
    ["role", "id", "call_id", "tool_call_id", "item_id", "status", "phase", "encrypted_content", "prompt_cache_key"]
)
_TYPES: Final = frozenset({"image_url", "input_image", "text", "input_text", "output_text"})  # those that a Walk knows
_UNSEEN: Final = frozenset({"file", "audio", "input_audio"})  # what these name is no text
_UNSEEN_EVEN_AS_TEXT: Final = frozenset({"file_id", "file_data", "file_url"})
_FORMATS: Final = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp", b"GIF8": "gif"}


def endpoint(method: str, url: str) -> str | None:
    """The endpoint of a call to a model, without the slash before it; None for any other request."""
    path: list[str] = []
    for part in unquote(urlsplit(url).path).split("/"):
        if part == "..":
            path = path[:-1]
        elif part not in ("", "."):
            path.append(part)
    if method.lower() != "post":
        return None
    return next((name for name in _BY_LENGTH if _ends_with(path, name.split("/"))), None)


def _ends_with(path: Sequence[str], name: Sequence[str]) -> bool:
    end = path[-len(name) :]
    return len(end) == len(name) and all(wanted in ("*", part) for part, wanted in zip(end, name, strict=True))


def items(name: str, options: Any) -> list[Item]:
    """The texts and images that a call to an endpoint would send to a model, each once.

    Raises NotScreened for what cannot be looked at: files and sound, and what is no JSON.
    """
    if options.content is not None or not isinstance(options.json_data, Mapping | None):
        raise NotScreened("the body of this call is no JSON object that a guard could look into")
    body = {**(options.json_data or {}), **(options.extra_json or {})}
    walk = Walk(None, with_links=True)
    nodes: list[Node] = [(_said(body[key]), (None, key), None, True) for key in _INPUTS[name] if key in body]
    return list(dict.fromkeys((*walk.inside(nodes), *_uploads(options.files))))


def _said(value: Any, *, are_names_ours: bool = True) -> Any:
    """The value as JSON, without what is only structure. The names of a prompt's variables are the app's own, and say nothing."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, Mapping):
        _refuse_unseen(value)
        kept = {key: each for key, each in value.items() if not (are_names_ours and _is_structure(key, each))}
        return {key: _said(each, are_names_ours=are_names_ours and key != "variables") for key, each in kept.items()}
    if isinstance(value, list | tuple):
        return [_said(each, are_names_ours=are_names_ours) for each in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise NotScreened(f"this call holds {type(value).__name__}, which a guard cannot look into")


def _refuse_unseen(value: Mapping[Any, Any]) -> None:
    for key in value:
        if key in _UNSEEN and not isinstance(value[key], str | None):
            raise NotScreened(f"this call holds {key!r}, which no moderator can look at")
        if key in _UNSEEN_EVEN_AS_TEXT and value[key] is not None:
            raise NotScreened(f"this call holds {key!r}, which no moderator can look at")


def _is_structure(key: object, value: object) -> bool:
    return key in _STRUCTURE or (key == "type" and isinstance(value, str) and value not in _TYPES)


def _uploads(files: Any) -> Iterator[Image]:
    """The images of an upload. What else it may be, nobody can look at."""
    pairs = files.items() if isinstance(files, Mapping) else files or ()
    for name, upload in pairs:
        data = _bytes(upload[1] if isinstance(upload, tuple) else upload)
        kind = next((kind for start, kind in _FORMATS.items() if data.startswith(start)), None)
        if kind is None:
            raise NotScreened(f"the upload {name!r} of this call is no image that a moderator can look at")
        yield Image(f"/{name}", f"data:image/{kind};base64,{b64encode(data).decode()}")


def _bytes(content: Any) -> bytes:
    """What an upload holds; a file is left where it was."""
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    at = content.tell()
    data: bytes = content.read()
    content.seek(at)
    return data
