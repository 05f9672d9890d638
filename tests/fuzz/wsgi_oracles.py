"""What the WSGI frameworks hand to a handler, by the accessors that their users write."""

from __future__ import annotations

import io
import json
from typing import Any

import flask
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest

from djangos import configure
from fuzz.case import Case
from fuzz.oracle import Reads, oracle, plain

configure()


# Flask


@oracle("flask", "json")
async def flask_json(case: Case, read: Reads) -> None:
    read.append(("", flask.Request(case.environ()).get_json()))


@oracle("flask", "json")
async def flask_forced_json(case: Case, read: Reads) -> None:
    read.append(("", flask.Request(case.environ()).get_json(force=True)))


@oracle("flask", "form")
async def flask_form(case: Case, read: Reads) -> None:
    request = flask.Request(case.environ())
    read += request.form.items(multi=True)
    for name, file in request.files.items(multi=True):
        read += [(name, file.filename), (name, plain(file.read()))]


@oracle("flask", "form")
async def flask_values(case: Case, read: Reads) -> None:
    read += flask.Request(case.environ()).values.items(multi=True)


@oracle("flask", "text")
async def flask_text(case: Case, read: Reads) -> None:
    read.append(("", flask.Request(case.environ()).get_data(as_text=True)))


@oracle("flask", "query")
async def flask_query(case: Case, read: Reads) -> None:
    read += flask.Request(case.environ()).args.items(multi=True)


# Django, under both protocols


def _django(case: Case) -> Any:
    if case.turn % 2:
        return ASGIRequest(case.scope(), io.BytesIO(case.body))
    return WSGIRequest(case.environ())


def lists(read: Reads, data: Any) -> None:
    for name, values in data.lists():
        for value in values:
            if hasattr(value, "chunks"):
                read += [(name, value.name), (name, plain(value.read()))]
            else:
                read.append((name, value))


@oracle("django", "json")
async def django_json(case: Case, read: Reads) -> None:
    read.append(("", json.loads(_django(case).body)))


@oracle("django", "form")
async def django_form(case: Case, read: Reads) -> None:
    request = _django(case)
    lists(read, request.POST)
    lists(read, request.FILES)


@oracle("django", "text")
async def django_text(case: Case, read: Reads) -> None:
    request = _django(case)
    read.append(("", request.body.decode(request.encoding or "utf-8")))


@oracle("django", "query")
async def django_query(case: Case, read: Reads) -> None:
    lists(read, _django(case).GET)


# Django REST framework


def _rest(case: Case) -> Any:
    from rest_framework.parsers import FormParser, JSONParser, MultiPartParser  # they want Django configured
    from rest_framework.request import Request as RestRequest

    return RestRequest(WSGIRequest(case.environ()), parsers=[JSONParser(), FormParser(), MultiPartParser()])


@oracle("rest", "json")
async def rest_json(case: Case, read: Reads) -> None:
    read.append(("", _rest(case).data))


@oracle("rest", "form")
async def rest_form(case: Case, read: Reads) -> None:
    lists(read, _rest(case).data)


@oracle("rest", "query")
async def rest_query(case: Case, read: Reads) -> None:
    lists(read, _rest(case).query_params)


ORACLES = [
    flask_json,
    flask_forced_json,
    flask_form,
    flask_values,
    flask_text,
    flask_query,
    django_json,
    django_form,
    django_text,
    django_query,
    rest_json,
    rest_form,
    rest_query,
]
