"""Django takes its settings once a process: the same for every test that needs them."""

from __future__ import annotations

import django
from django.conf import settings


def configure() -> None:
    if not settings.configured:
        settings.configure(
            ROOT_URLCONF="test_frameworks",
            SECRET_KEY="test",
            ALLOWED_HOSTS=["*"],
            MIDDLEWARE=[],
            REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
        )
        django.setup()
