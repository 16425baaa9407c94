"""Users, limits, umask and nice of commands, and what is said when a node cannot give them."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from raftsched.core.spec import ProcessLimits, TaskSpec
from raftsched.executor import fork
from raftsched.executor.results import Answers, BadResult
from tests.unit.executor.harness import running

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
not_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may do all of this")

MIB = 1 << 20


@pytest.mark.parametrize(
    ("options", "line", "said"),
    [
        ({"umask": 0o27}, "umask", b"0027\n"),
        ({"umask": 0}, "umask", b"0000\n"),
        ({"nice": 7}, "nice", b"7\n"),
        ({"limits": ProcessLimits(open_files=64)}, "ulimit -S -n; ulimit -H -n", b"64\n64\n"),
        ({"limits": ProcessLimits(memory_bytes=512 * MIB)}, "ulimit -v", b"524288\n"),
        ({"limits": ProcessLimits(cpu_seconds=9)}, "ulimit -t", b"9\n"),
        ({"limits": ProcessLimits(processes=900)}, "grep 'Max proc' /proc/self/limits|tr -s ' '",
         b"Max processes 900 900 processes \n"),
        ({"umask": 0o77, "stdin": "in"}, "cat; umask", b"in0077\n"),
        ({"umask": 0o77, "cwd": "/usr"}, "pwd", b"/usr\n"),
        ({"umask": 0o77, "env": {"A": "b"}}, "echo $A $RAFTSCHED_FENCING_TOKEN", b"b 1\n"),
    ],
)  # fmt: skip
async def test_program_has_what_was_asked_for(
    tmp_path: Path, options: dict[str, Any], line: str, said: bytes
) -> None:
    async with running(tmp_path) as node:
        report = await node.run(line, shell=True, **options)
        assert (report.status, report.output_tail) == ("succeeded", said)


async def test_program_past_its_memory_or_cpu_fails(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        script = "x = bytearray(2**30)"
        limits = ProcessLimits(memory_bytes=400 * MIB)
        report = await node.run("python3", "-S", "-c", script, limits=limits)
        assert (report.status, report.reason) == ("failed", "exit-code-1")
        assert b"MemoryError" in report.output_tail
        limits = ProcessLimits(cpu_seconds=1)
        report = await node.run("while :; do :; done", token=2, shell=True, limits=limits)
        assert report.status == "failed"
        assert report.reason in ("signal-24", "signal-9")


@pytest.mark.parametrize(
    ("command", "options", "reason"),
    [
        (["no-such-program"], {}, "executable-not-found: no-such-program"),
        (["/no/such"], {}, "executable-not-found: /no/such"),
        (["/etc/passwd"], {}, "not-executable: /etc/passwd"),
        (["true"], {"cwd": "/no/such"}, "cwd-unusable: /no/such: No such file or directory"),
        (["true"], {"user": "no-such-user"},
         "cannot-start: user no-such-user: not known on this node"),
        (["true"], {"group": "no-such-group"},
         "cannot-start: group no-such-group: not known on this node"),
        (["true"], {"user": "4000000001"},
         "cannot-start: user 4000000001: has no entry; name a group"),
        (["true"], {"user": "9" * 30}, f"cannot-start: user {'9' * 30}: not known on this node"),
    ],
)  # fmt: skip
async def test_what_cannot_start_says_why(
    tmp_path: Path, command: list[str], options: dict[str, Any], reason: str
) -> None:
    async with running(tmp_path) as node:
        report = await node.run(*command, umask=0o22, **options)
        assert (report.status, report.exit_code) == ("failed", None)
        assert report.reason == reason


async def test_memory_limit_below_what_starting_takes_fails(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        report = await node.run("true", limits=ProcessLimits(memory_bytes=4096))
        assert report.status == "failed"
        assert (await node.run("true", token=2)).status == "succeeded"


@root
async def test_program_of_another_user_has_that_users_rights_home_and_result(
    tmp_path: Path,
) -> None:
    entry = pwd.getpwnam("nobody")
    script = (
        "id -u; id -g; id -G; echo $USER; pwd; cat /etc/shadow 2>/dev/null || echo refused; "
        "ls {} 2>/dev/null || echo refused; echo '{{\"a\": 1}}' > $RAFTSCHED_RESULT_FILE"
    )
    async with running(tmp_path) as node:
        report = await node.run(script.format(tmp_path), shell=True, user="nobody")
        home = entry.pw_dir if Path(entry.pw_dir).is_dir() else "/"
        groups = " ".join(map(str, os.getgrouplist("nobody", entry.pw_gid)))
        assert report.output_tail.decode().splitlines() == [
            str(entry.pw_uid), str(entry.pw_gid), groups, "nobody", home, "refused", "refused",
        ]  # fmt: skip
        assert (report.status, report.result) == ("succeeded", b'{"a": 1}')


@root
async def test_numbers_and_a_group_alone_are_owners_too(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        line = "id -u; id -G"
        report = await node.run(line, shell=True, user="4000000001", group="4000000002")
        assert report.output_tail == b"4000000001\n4000000002\n"
        report = await node.run(line, shell=True, token=2, group="4000000002")
        assert report.output_tail == b"0\n4000000002\n"


@root
async def test_result_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        line = "ln -s /etc/hostname $RAFTSCHED_RESULT_FILE"
        report = await node.run(line, shell=True, user="nobody")
        assert (report.status, report.result) == ("failed", b"")
        assert report.reason.startswith("result-unreadable: ")


@root
def test_result_in_a_users_directory_that_is_anothers_file_is_not_read(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    answers = Answers(tmp_path)
    answer = answers.open(1, is_private=True)
    Path(answer.private).mkdir()
    os.chown(answer.private, nobody.pw_uid, nobody.pw_gid)
    # As a hard link would be.
    Path(answer.result).write_text('"secret"')
    with pytest.raises(BadResult, match="result-unreadable"):
        answer.take(may_be_large=True)
    Path(answer.result).write_bytes(bytes(100_000))
    with pytest.raises(BadResult, match="result-unreadable"):
        answer.take(may_be_large=True)
    Path(answer.result).write_text('"own"')
    os.chown(answer.result, nobody.pw_uid, nobody.pw_gid)
    assert answer.take(may_be_large=True) == b'"own"'
    answers.close()
    assert not Path(answer.private).parent.exists()


@not_root
async def test_node_that_is_not_root_becomes_nobody_else(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        report = await node.run("true", user="root")
        assert report.status == "failed"
        assert "may become nobody else" in report.reason
        own = pwd.getpwuid(os.getuid()).pw_name
        assert (await node.run("true", token=2, user=own)).status == "succeeded"


async def test_stop_right_after_the_start_of_a_forked_program_ends_it(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        for token in range(1, 11):
            node.start("sleep", "100", token=token, umask=0o22)
            node.client.stop(token, "user")
            assert (await node.report(token)).status == "cancelled"


def test_usual_command_is_not_forked() -> None:
    assert not fork.is_needed(TaskSpec(("true",), env={"A": "b"}, cwd="/", timeout_ms=5))
    assert fork.is_needed(TaskSpec(("true",), umask=0))
