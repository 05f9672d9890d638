"""What the fuzzer once found, in small files: replayed by `test_fuzz` for ever."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from fuzz.case import Case
from fuzz.judge import Fault

FOLDER: Final = Path(__file__).parent / "regressions"


def write(case: Case, fault: Fault) -> Path:
    """One finding; the same request has the same name."""
    text = json.dumps(case.dumped() | {"unseen": fault.unseen}, indent=1) + "\n"
    digest = hashlib.sha256(json.dumps(case.dumped()).encode()).hexdigest()[:8]
    file = FOLDER / f"{case.kind}-{digest}.json"
    file.write_text(text)
    return file


def read() -> dict[str, Case]:
    """Every finding by the name of its file."""
    return {file.stem: Case.loaded(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
