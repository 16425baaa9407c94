"""Crontabs are read as cron reads them, and what cannot be taken is said."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.cli.crontab import LINES_MAX, read

DEBIAN = r"""
# /etc/crontab: system-wide crontab
SHELL=/bin/sh
# You can also override PATH, but by default, newer versions inherit it from the environment
#PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin

17 *	* * *	root	cd / && run-parts --report /etc/cron.hourly
25 6	* * *	root	test -x /sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
47 6	* * 7	root	test -x /sbin/anacron || { cd / && run-parts --report /etc/cron.weekly; }
30 3 * * 0 root test -e /run/systemd/system || SERVICE_MODE=1 /usr/lib/x/e2scrub_all_cron
"""


def documents(text: str, is_system: bool = False, **options: Any) -> list[dict[str, Any]]:
    entries, troubles = read(text, is_system=is_system, **{"zone": "UTC", **options})
    assert not troubles
    return [entry.document for entry in entries]


def one(text: str, **options: Any) -> dict[str, Any]:
    [document] = documents(text, **options)
    return document


def test_the_crontab_of_a_debian_machine() -> None:
    found = documents(DEBIAN, is_system=True, zone="Europe/Berlin")
    assert [d["name"] for d in found] == [
        "cron.hourly", "cron.daily", "cron.weekly", "e2scrub_all_cron",
    ]  # fmt: skip
    assert found[0] == {
        "name": "cron.hourly", "cron": "17 * * * *", "zone": "Europe/Berlin", "overlap": "allow",
        "task": {
            "command": ["cd / && run-parts --report /etc/cron.hourly"], "shell": True,
            "user": "root",
        },
    }  # fmt: skip


def test_environment_lines_hold_for_what_follows() -> None:
    text = '0 1 * * * /a\nPATH=/opt/bin\nX = "a b"\n0 2 * * * /b\nHOME=/srv\n0 3 * * * /c\n'
    first, second, third = documents(text)
    assert "env" not in first["task"]
    assert second["task"]["env"] == {"PATH": "/opt/bin", "X": "a b"}
    assert (third["task"]["env"]["HOME"], third["task"]["cwd"]) == ("/srv", "/srv")


def test_a_zone_and_a_shell_of_its_own() -> None:
    text = "CRON_TZ=Asia/Tokyo\nSHELL=/bin/bash\n@daily echo [[ x ]]\n"
    document = one(text)
    assert (document["zone"], document["cron"]) == ("Asia/Tokyo", "@daily")
    assert document["task"] == {"command": ["/bin/bash", "-c", "echo [[ x ]]"]}


@pytest.mark.parametrize(
    ("line", "command", "stdin"),
    [
        (r"date +\%F", "date +%F", None),
        ("mail -s x root%hello%world", "mail -s x root", "hello\nworld\n"),
        (r"cat%100\% sure", "cat", "100% sure\n"),
        ("cat%", "cat", "\n"),
    ],
)
def test_a_percent_sign_begins_the_input(line: str, command: str, stdin: str | None) -> None:
    task = one(f"* * * * * {line}")["task"]
    assert (task["command"], task.get("stdin")) == ([command], stdin)


def test_names_are_by_the_program_and_the_same_at_every_reading() -> None:
    text = "@daily /usr/bin/backup /home\n@weekly /usr/bin/backup /\n@daily cd /x && ./run me\n"
    for _ in range(2):
        names = [document["name"] for document in documents(text, prefix="me-")]
        assert names == ["me-backup", "me-backup-2", "me-run"]
    assert len(one(f"@daily /{'x' * 200}")["name"]) <= 40


def test_what_cannot_be_taken_is_said_with_its_line_and_the_rest_is_taken() -> None:
    text = "MAILTO=ops\n@reboot /a\n* * * *\n@daily /b\n5 4 * * *\n"
    entries, troubles = read(text, is_system=False, zone="UTC")
    assert [entry.line for entry in entries] == [4]
    assert [line for line, _ in troubles] == [1, 2, 3, 5]
    assert "@reboot" in troubles[1].text


def test_a_system_line_without_a_user_is_no_line() -> None:
    _, [trouble] = read("0 1 * * * backup\n", is_system=True, zone="UTC")
    assert "a user" in trouble.text


def test_files_are_bounded() -> None:
    _, troubles = read("# x\n" * (LINES_MAX + 5), is_system=False, zone="UTC")
    assert [line for line, _ in troubles] == [LINES_MAX + 1]
    _, [trouble] = read("@daily " + "x" * 20_000, is_system=False, zone="UTC")
    assert "characters" in trouble.text
