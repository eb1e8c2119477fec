"""Secrets of several lines, as YAML and TOML write them: all of their lines are masked, and none of the next key."""

from __future__ import annotations

import json
from time import process_time

import pytest

from workflows.instrumentation.content import redact_text
from workflows.instrumentation.redaction import mask_secrets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password: |\n  hunter2\n  and more\nuser: ann\n", "password: **********\nuser: ann\n"),
        ("db:\n  password: >-\n    hunter2\n  user: ann", "db:\n  password: **********\n  user: ann"),
        ("- api_key: |2\n      a\n\n      b\n  user: ann", "- api_key: **********\n  user: ann"),
        ("password: |+  # kept\n\thunter2\nuser: ann", "password: **********\nuser: ann"),
        ('  "password": |\n    hunter2\n  user: ann', '  "password": "**********"\n  user: ann'),
        ("password: |\r\n  hunter2\r\nuser: ann", "password: **********\r\nuser: ann"),
        ("password: |\n  hunter2", "password: **********"),
        ("secret: |\nuser: ann", "secret: **********\nuser: ann"),
        ("secret: | a table |\n  b", "secret: ********** a table |\n  b"),
        ('password = """hunter2\nand "more\n"""\nuser = "ann"', 'password = "**********"\nuser = "ann"'),
        ("password = '''\nhunter2'''\nuser = 'ann'", "password = '**********'\nuser = 'ann'"),
        ('password = """hunter2\nand more', 'password = "**********"'),
    ],
)
def test_a_secret_of_several_lines_is_masked_whole(text: str, expected: str) -> None:
    assert redact_text(text) == expected


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_block_within_json_is_masked_and_json_stays_json(depth: int) -> None:
    text = "user: ann\npassword: |\n  hunter2\n\n  and more\nhost: db\n"
    for _ in range(depth):
        text = json.dumps({"config": text, "n": 1})
    masked = mask_secrets(text)
    for _ in range(depth):
        masked = json.loads(masked)["config"]
    assert masked == "user: ann\npassword: **********\nhost: db\n"


def test_a_block_at_the_end_of_json_ends_with_it() -> None:
    text = json.dumps({"config": "password: |\n  hunter2", "user": "ann"})
    assert json.loads(mask_secrets(text)) == {"config": "password: **********", "user": "ann"}


def test_what_is_masked_stays_as_it_is() -> None:
    masked = redact_text("password: |\n  hunter2\nuser: ann")
    assert redact_text(masked) == masked


@pytest.mark.parametrize(
    "part",
    ["password: |\n", "password: |\n  x\n", "password: |\\n  x\\n", "password: |\n\n\n", 'password="""', " key: |\n "],
)
def test_blocks_are_masked_in_a_time_that_grows_with_their_length_alone(part: str) -> None:
    def seconds(chars: int) -> float:
        begun = process_time()
        redact_text(part * (chars // len(part)))
        return process_time() - begun

    assert seconds(160_000) < 100 * min(seconds(10_000) for _ in range(3)) + 0.3
