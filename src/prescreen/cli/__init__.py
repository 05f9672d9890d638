"""The `prescreen` command. It needs the extra `cli` (typer and rich), and says so without it."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point. Exit status: 0 fine, 1 the answer is no, 2 the question was wrong."""
    try:
        from prescreen.cli.commands import app
    except ImportError as error:
        sys.exit(
            "the prescreen command needs its extra: pip install 'prescreen[cli]' "
            f"(from a checkout: pip install '.[cli]'): {error}"
        )
    sys.path.insert(0, "")  # so that moderator = "app.safety:check" is found, as servers find apps
    app()
