"""The commands, as somebody at a terminal or a script meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from prescreen import Screen

pytestmark = pytest.mark.once

VALID = """
moderator = "keywords"
deadline = "1.5s"

[[rules]]
match = "POST /chat"
json = ["$.messages[*].content"]

[[rules]]
match = "GET /search"
query = ["q"]
on_unreadable = "allow"

[[rules]]
match = "* /health"
exempt = true

[[rules]]
match = "POST /note"
text = true
max_body = "65000B"

[policy]
ignore = ["hate"]
[policy.thresholds]
violence = 0.7
[policy.actions]
harassment = "flag"
"""
SENTINEL = "prescreen test phrase seven violet lanterns"


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from prescreen.cli import main; main()", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prescreen.toml"
    path.write_text(VALID)
    return path


def body(tmp_path: Path, content: object, name: str = "body.json") -> str:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_check_prints_the_rules_in_force(file: Path) -> None:
    done = run("check", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    for expected in ("POST /chat", "$.messages[*].content", "query q", "on_unreadable = allow", "exempt", "65000 B"):
        assert expected in done.stdout
    assert "violence >= 0.7" in done.stdout


def test_check_says_when_there_is_no_rule(tmp_path: Path) -> None:
    path = tmp_path / "prescreen.toml"
    path.write_text('moderator = "keywords"')
    done = run("check", str(path))
    assert (done.returncode, "no request is screened" in done.stdout) == (0, True)


def test_check_as_json_is_the_configuration(file: Path) -> None:
    done = run("check", "--json", str(file))
    found = json.loads(done.stdout)
    assert (done.returncode, found["valid"], found["deadline_seconds"]) == (0, True, 1.5)
    assert [rule["match"] for rule in found["rules"]] == ["POST /chat", "GET /search", "* /health", "POST /note"]
    assert found["rejection"] == {"format": "problem", "status": 400}
    assert found["on_error"] == ["reject"]


def test_check_says_what_is_tried_when_the_moderator_fails(file: Path) -> None:
    ladder = 'on_error = ["stale", "keywords", "flag"]\nmoderator = "mistral"\nmoderators.mistral.api_key = "k"'
    file.write_text(VALID.replace('moderator = "keywords"', ladder).partition("[policy]")[0])
    assert "  on error: stale, then keywords, then flag\n" in run("check", str(file)).stdout
    assert json.loads(run("check", "--json", str(file)).stdout)["on_error"] == ["stale", "keywords", "flag"]


def test_check_says_what_spares_the_moderator(file: Path) -> None:
    file.write_text('quota = {rpm = 500, tpm = 10000}\nbreaker = {slow = "1s"}\ntelemetry = "prometheus"\n' + VALID)
    lines = run("check", str(file)).stdout.splitlines()
    for line in (
        "  verdicts kept: 24 hours, up to 16,384 of them or 8 MiB",
        "  quota: 500 calls and 10,000 tokens a minute",
        "  calls: 10 at once, of up to 32 texts",
        "  screenings at once: 1,024",
        "  telemetry: prometheus",
    ):
        assert line in lines
    assert any(line.endswith("took over 1 s") or line == "took over 1 s" for line in lines)
    file.write_text("cache = false\nbreaker = false\n" + VALID)
    lines = run("check", str(file)).stdout.splitlines()
    assert {"  verdicts kept: none", "  quota: none", "  breaker: never left alone"} < set(lines)
    found = json.loads(run("check", "--json", str(file)).stdout)
    assert (found["cache"], found["quota"], found["breaker"], found["max_screenings"]) == (None, None, None, 1024)


@pytest.mark.parametrize("as_json", [False, True])
def test_check_names_the_key_at_fault(file: Path, as_json: bool) -> None:
    file.write_text(VALID.replace('json = ["$.m', 'json = ["m'))
    done = run("check", *(["--json"] if as_json else []), str(file))
    assert done.returncode == 1
    if as_json:
        found = json.loads(done.stdout)
        assert (found["valid"], found["error"]["key"]) == (False, "rules[0].json[0]")
    else:
        assert "rules[0].json[0]" in done.stderr
        assert "a path starts with $" in done.stderr


def test_a_missing_file_is_wrong_usage() -> None:
    assert run("check", "/nowhere/prescreen.toml").returncode == 2


def test_try_shows_texts_verdicts_and_the_decision(file: Path, tmp_path: Path) -> None:
    chat = {"messages": [{"content": "[red]hello[/red]"}, {"content": [{"type": "text", "text": SENTINEL}]}]}
    done = run("try", str(file), "--request", "POST /chat", body(tmp_path, chat))
    assert done.returncode == 1
    for expected in ("POST /chat", "/messages/0/content", "[red]hello[/red]", "/messages/1/content/0/text", "violence"):
        assert expected in done.stdout
    assert "400 application/problem+json" in done.stdout


def test_try_as_json_is_the_decision(file: Path, tmp_path: Path) -> None:
    chat = {"messages": [{"content": "x" * 200}]}
    done = run("try", str(file), "--request", "POST /chat", body(tmp_path, chat), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["rule"], found["decision"]["action"]) == (0, "POST /chat", "allow")
    assert found["found"][0]["pointer"] == "/messages/0/content"
    assert found["found"][0]["verdict"]["flagged"] is False


def test_try_reads_a_query_and_standard_input(file: Path) -> None:
    assert run("try", str(file), "--request", "GET /search?q=seven+lanterns").returncode == 0
    sentinel = SENTINEL.replace(" ", "%20")
    assert run("try", str(file), "--request", f"GET /search?q={sentinel}").returncode == 1
    done = run("try", str(file), "--request", "POST /note", "-", "--type", "text/plain", stdin=SENTINEL)
    assert (done.returncode, "the body" in done.stdout) == (1, True)


def test_try_shows_what_would_be_refused(file: Path, tmp_path: Path) -> None:
    done = run("try", str(file), "--request", "POST /chat", body(tmp_path, '{"messages": ['))
    assert (done.returncode, "not valid JSON" in done.stdout) == (1, True)
    done = run("try", str(file), "--request", "POST /note", body(tmp_path, "x" * 70_000, "note.txt"))
    assert (done.returncode, "limit is 65000" in done.stdout) == (1, True)


def test_try_says_when_nothing_was_found_or_no_rule_matches(file: Path, tmp_path: Path) -> None:
    done = run("try", str(file), "--request", "POST /chat", body(tmp_path, {"messages": []}))
    assert (done.returncode, "nothing at the rule's places" in done.stdout) == (0, True)
    done = run("try", str(file), "--request", "POST /elsewhere", body(tmp_path, {}))
    assert (done.returncode, "untouched" in done.stdout) == (0, True)
    done = run("try", str(file), "--request", "POST /elsewhere", body(tmp_path, {}), "--json")
    assert json.loads(done.stdout) == {"rule": None, "found": [], "decision": None}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--request", "chat"], "is no method and path"),
        (["--request", "POST /chat", "/nowhere/body.json"], "cannot read"),
        (["--request", "POST /chat", "{file}"], "--type application/json"),
    ],
)
def test_try_explains_wrong_usage(file: Path, arguments: list[str], problem: str) -> None:
    done = run("try", str(file), *(argument.format(file=file) for argument in arguments))
    assert (done.returncode, problem in done.stderr) == (2, True)


def test_try_with_a_broken_configuration_is_wrong_usage(file: Path) -> None:
    file.write_text("rulez = 1")
    done = run("try", str(file), "--request", "POST /chat")
    assert (done.returncode, "did you mean 'rules'" in done.stderr) == (2, True)


def test_the_version_and_the_help() -> None:
    assert run("--version").stdout.startswith("prescreen ")
    assert "check" in run("--help").stdout


def test_without_its_extra_the_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from prescreen.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "pip install 'prescreen[cli]'" in done.stderr) == (1, True)


def test_try_says_what_passes_only_because_it_may(file: Path, tmp_path: Path) -> None:
    file.write_text(f'mode = "monitor"\n{VALID}')
    done = run("try", str(file), "--request", "POST /note", body(tmp_path, SENTINEL, "note.txt"))
    assert (done.returncode, "monitor only: the request passes" in done.stdout) == (0, True)
    file.write_text(VALID.replace('match = "POST /note"', 'match = "POST /note"\non_unreadable = "allow"'))
    done = run("try", str(file), "--request", "POST /note", body(tmp_path, {}))
    assert (done.returncode, "without having been judged" in done.stdout) == (0, True)


def test_try_shows_what_was_found_when_the_moderator_fails(file: Path, tmp_path: Path) -> None:
    image = {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "https://pictures.test/cat.png"}}]}]}
    done = run("try", str(file), "--request", "POST /chat", body(tmp_path, image))
    assert (done.returncode, "https://pictures.test/cat.png" in done.stdout) == (1, True)
    assert "cannot judge images" in done.stdout


def test_try_says_by_which_rung_it_was_judged(tmp_path: Path) -> None:
    (tmp_path / "safety.py").write_text(
        "from prescreen import ModeratorDown, Verdict\n"
        "def half(items, known):\n    known[0] = Verdict(False, model='half-1')\n    raise ModeratorDown('gone')\n"
    )
    (tmp_path / "prescreen.toml").write_text(
        VALID.replace('"keywords"', '"safety:half"\non_error = ["keywords", "flag"]')
    )
    chat = body(tmp_path, {"messages": [{"content": "hello"}, {"content": "a lantern"}]})
    command = [sys.executable, "-c", "from prescreen.cli import main; main()", "try", "prescreen.toml", chat]
    outputs = []
    for more in ([], ["--json"]):
        asked = [*command, "--request", "POST /chat", *more]
        done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        outputs.append(done.stdout)
    assert "allow (by on_error: keywords)" in outputs[0]
    found = json.loads(outputs[1])
    assert [each["verdict"]["model"] for each in found["found"]] == ["half-1", "keywords"]
    assert found["decision"]["rung"] == "keywords"


def test_try_prints_half_an_emoji_and_no_control_characters(file: Path, tmp_path: Path) -> None:
    chat = body(tmp_path, '{"messages": [{"content": "a \\ud83d b \\u001b[2J"}]}')
    for arguments in ([], ["--json"]):
        done = run("try", str(file), "--request", "POST /chat", chat, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout


def test_check_finds_a_moderator_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "safety.py").write_text("def check(items):\n    return []\n")
    (tmp_path / "prescreen.toml").write_text('moderator = "safety:check"')
    command = [sys.executable, "-c", "from prescreen.cli import main; main()", "check", "prescreen.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "moderator: check" in done.stdout) == (0, True)


# People and texts

PEOPLE = """
moderator = "openai"
secret = "a secret of more than sixteen characters"
subject = "header:x-user-id"
store = "sqlite:kept.db"
[strikes]
limit = 2
"""


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "prescreen.toml"
    path.write_text(PEOPLE)
    return path


def test_subject_prints_the_hash_that_reports_carry(people: Path) -> None:
    done = run("subject", "user-7", "--config", str(people))
    hashed = Screen(people, moderator="keywords").subject("user-7")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{hashed}\n", "")


def test_an_operator_goes_through_the_strikes_of_an_app(people: Path) -> None:
    def strikes(*arguments: str) -> tuple[int, str]:
        done = run("strikes", *arguments, "--config", str(people))
        return done.returncode, done.stdout + done.stderr

    assert strikes("list") == (0, "nobody has strikes\n")
    assert strikes("list", "--json") == (0, "[]\n")
    screen = Screen(people, moderator="keywords")
    hashed = screen.subject("user-7")
    for _ in range(2):
        assert screen.check_sync(SENTINEL, subject="user-7").is_rejected
    assert hashed in strikes("list")[1]
    assert "1 hour" in strikes("list")[1]
    [entry] = json.loads(strikes("list", "--json")[1])
    assert (entry["subject"], entry["suspensions"], entry["total"]) == (hashed, 1, 2)
    assert json.loads(strikes("show", hashed, "--json")[1]) == {
        **entry,
        "suspended_seconds": pytest.approx(3600, abs=60),
    }
    assert "1 hour" in strikes("show", "user-7", "--id")[1]
    assert strikes("lift", hashed) == (0, f"{hashed} is no longer suspended\n")
    assert strikes("lift", hashed) == (1, f"prescreen: {hashed} is not suspended\n")
    assert not screen.check_sync("hello", subject="user-7").is_rejected
    assert strikes("suspend", "user-7", "--id", "--for", "2d") == (0, "user-7 is suspended for 2 days\n")
    assert screen.check_sync("hello", subject="user-7").is_rejected
    assert strikes("clear", "user-7", "--id") == (0, "user-7 has no strikes any more\n")
    assert strikes("clear", "user-7", "--id") == (1, "prescreen: nothing is known of user-7\n")
    assert not screen.check_sync("hello", subject="user-7").is_rejected
    assert strikes("show", hashed)[0] == 1
    assert strikes("show", hashed, "--json") == (1, "null\n")
    assert strikes("suspend", "user-7", "--for", "7d") == (
        2,
        "prescreen: 'user-7' is no keyed hash of a subject; add --id if it is your own id of the user\n",
    )
    assert strikes("list") == (0, "nobody has strikes\n")
    code, said = strikes("suspend", hashed, "--for", "never")
    assert (code, "'never' is not a duration" in said) == (2, True)


def test_an_operator_repairs_a_false_positive(people: Path, tmp_path: Path) -> None:
    def lists(*arguments: str, stdin: str = "") -> tuple[int, str]:
        done = run("lists", *arguments, "--config", str(people), stdin=stdin)
        return done.returncode, done.stdout + done.stderr

    screen = Screen(people, moderator="keywords")
    assert screen.check_sync(SENTINEL).is_rejected
    assert lists("show") == (0, "nothing is on the lists\n")
    assert lists("add", "allow", SENTINEL, "--note", "a quotation", "--for", "30d")[0] == 0
    assert not screen.check_sync(SENTINEL).is_rejected
    code, shown = lists("show")
    assert (code, "a quotation" in shown, SENTINEL in shown) == (0, True, False)
    [entry] = json.loads(lists("show", "--json")[1])
    assert (entry["list"], entry["note"]) == ("allow", "a quotation")
    assert lists("remove", "--digest", entry["digest"]) == (0, "off the list\n")
    assert lists("remove", SENTINEL) == (1, "prescreen: it is on no list\n")
    assert lists("add", "deny", "--file", "-", stdin="hello\n")[0] == 0
    assert screen.check_sync("hello").categories == ("denied",)
    assert lists("remove", "--file", body(tmp_path, "hello\r\n", "text.txt")) == (0, "off the list\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lists", "add", "allow"), "give the text, or a file with it"),
        (("lists", "add", "allow", "a", "--file", "-"), "give the text, or a file with it"),
        (("lists", "add", "allow", "--file", "gone.txt"), "cannot read gone.txt: No such file"),
        (("lists", "add", "allow", "--file", "{broken}"), "is not UTF-8"),
        (("lists", "add", "allow", " "), "without words"),
        (("strikes", "suspend", "--id", "x", "--for", "0s"), "'0s' is not a duration"),
    ],
)
def test_what_an_operator_mistypes_is_said(arguments: tuple[str, ...], said: str, people: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"\xff")
    done = run(*(each.format(broken=broken) for each in arguments), "--config", str(people))
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "arguments", "said"),
    [
        ('store = "sqlite:kept.db"', "", ("strikes", "list"), "the memory of the app cannot be reached from here"),
        ('store = "sqlite:kept.db"', "lists = true", ("lists", "show"), "the memory of the app cannot be reached"),
        ("[strikes]\nlimit = 2", "", ("strikes", "list"), "strikes: the configuration keeps none"),
        ("[strikes]\nlimit = 2", "lists = false", ("lists", "show"), "lists: the configuration has none"),
        ("limit = 2", "limit = 0", ("strikes", "list"), "strikes.limit: 0 is no number above 0"),
        ('secret = "a secret of more than sixteen characters"', "", ("subject", "user-7"), "set PRESCREEN_SECRET"),
    ],
)
def test_a_configuration_that_keeps_nothing_to_see_is_said(
    old: str, new: str, arguments: tuple[str, ...], said: str, people: Path
) -> None:
    people.write_text(PEOPLE.replace(old, new))
    done = run(*arguments, "--config", str(people))
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_check_says_whose_requests_are_counted_and_where(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people.write_text(PEOPLE.replace('"openai"', '"keywords"'))
    said = run("check", str(people)).stdout
    for expected in (
        "subject: header:x-user-id",
        "strikes: 2 within 24 hours suspend for 1 hour",
        "store: SQLiteStore, for strikes and lists",
    ):
        assert expected in said
    found = json.loads(run("check", "--json", str(people)).stdout)
    assert (found["subject"], found["strikes"]["limit"], found["lists"]) == (["header:x-user-id"], 2, True)


def test_an_operator_finds_by_id_who_is_kept_under_an_older_secret(people: Path) -> None:
    before = Screen(people, moderator="keywords")
    assert before.people.book is not None
    before.people.book.suspend(before.subject("user-7"), "2h")
    newer = 'secret = "another secret of enough characters"\nprevious_secrets = ["a secret of more than sixteen characters"]'
    people.write_text(PEOPLE.replace('secret = "a secret of more than sixteen characters"', newer))
    assert "2 hours" in run("strikes", "show", "user-7", "--id", "--config", str(people)).stdout
    assert run("strikes", "lift", "user-7", "--id", "--config", str(people)).returncode == 0
    after = Screen(people, moderator="keywords")
    assert not after.check_sync("hello", subject="user-7").is_rejected


def test_at_a_terminal_a_hash_can_be_copied_whole(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(people, moderator="keywords")
    screen.check_sync(SENTINEL, subject="user-7")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "70")
    shown = run("strikes", "list", "--config", str(people)).stdout
    assert screen.subject("user-7") in shown
