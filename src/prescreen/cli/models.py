"""What a FastAPI handler's body may look like, with every name that its models accept.

An OpenAPI document names each field once. pydantic may take it under several names (aliases, choices
and paths of them, the field's own name), and a rule that knows one of them misses the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

Schema = dict[str, Any]


def body_schema(info: Any) -> Schema:
    """The JSON schema of a field (a FieldInfo), with all names; definitions under `$defs`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an alias means nothing on a type by itself, and pydantic says so
        adapter = TypeAdapter[Any](Annotated[info.annotation, info])
        return adapter.json_schema(schema_generator=_AllNames, mode="validation")


class _AllNames(GenerateJsonSchema):
    """A property for every name that a field is read from; required only where there is but one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._configs: list[Mapping[str, Any]] = [{}]

    def model_schema(self, schema: Any) -> Schema:
        return self._within(schema, super().model_schema)

    def dataclass_schema(self, schema: Any) -> Schema:
        return self._within(schema, super().dataclass_schema)

    def typed_dict_schema(self, schema: Any) -> Schema:
        found = self._within(schema, super().typed_dict_schema)
        return self._renamed(found, schema["fields"].items(), schema.get("config", {}))

    def model_fields_schema(self, schema: Any) -> Schema:
        return self._renamed(super().model_fields_schema(schema), schema["fields"].items(), self._configs[-1])

    def dataclass_args_schema(self, schema: Any) -> Schema:
        fields = [(field["name"], field) for field in schema["fields"]]
        return self._renamed(super().dataclass_args_schema(schema), fields, self._configs[-1])

    def decimal_schema(self, schema: Any) -> Schema:
        return self.float_schema(schema)  # it may come as a string, of digits

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:  # noqa: ARG002  # pydantic's
        return {}  # a type that no schema describes may hold anything

    def _within(self, schema: Any, generate: Any) -> Schema:
        self._configs.append(schema.get("config", {}))
        try:
            return generate(schema)  # type: ignore[no-any-return]  # one of the three above
        finally:
            self._configs.pop()

    def _renamed(self, found: Schema, fields: Iterable[tuple[str, Any]], config: Mapping[str, Any]) -> Schema:
        given, required = found.get("properties", {}), set(found.get("required", ()))
        properties: Schema = {}
        for name, field in fields:
            paths = list(_accepted(name, field, config))
            shown = next((path[0] for path in paths if path[0] in given), name)
            for head, *tail in paths:
                inner = _nested(given.get(shown, {}), tail)  # what is left out of a schema is read all the same
                properties[head] = {"allOf": [properties[head], inner]} if head in properties else inner
            if len(paths) > 1 or paths[0][1:]:
                required.discard(shown)
        return found | {"properties": properties, "required": sorted(required)}


def _accepted(name: str, field: Any, config: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Where a field's value is looked for: paths of names, and of indexes behind the first."""
    alias = field.get("validation_alias")
    if alias is not None and config.get("validate_by_alias", True):
        yield from [[alias]] if isinstance(alias, str) else alias if isinstance(alias[0], list) else [alias]
    if alias is None or config.get("validate_by_name") or config.get("populate_by_name"):
        yield [name]


def _nested(schema: Schema, tail: list[str | int]) -> Schema:
    """The schema of a document that has `schema` at the end of `tail`."""
    for token in reversed(tail):
        if isinstance(token, str):
            schema = {"type": "object", "properties": {token: schema}}
        elif token >= 0:
            schema = {"type": "array", "prefixItems": [{"type": "null"}] * token + [schema], "items": False}
        else:
            schema = {"type": "array", "items": schema}
    return schema
