"""Places in texts: what is filled in, what is literal, and that nothing is looked at twice."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.api.places import Filling, Place, TooMuch, is_place, places

VALUES = {"s": "a", "n": 3, "f": 1.5, "yes": True, "list": [1, "b"], "map": {"k": 1}, "null": None}


def fill(document: Any) -> Any:
    return Filling(VALUES, 1_000).fill(document)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${s}", "a"), ("${n}", 3), ("${f}", 1.5), ("${yes}", True), ("${list}", [1, "b"]),
        ("${map}", {"k": 1}), ("-${s}-${n}-", "-a-3-"), ("${n} ${f} ${yes}", "3 1.5 true"),
        (" ${list}", ' [1,"b"]'), ("x${null}", "x"), ("$${s}", "${s}"), ("$${s} ${s}", "${s} a"),
        ("$s $ {s} {s} $$", "$s $ {s} {s} $$"), ("", ""),
    ],
)  # fmt: skip
def test_a_text_becomes(text: str, expected: Any) -> None:
    found = fill({"field": text})["field"]
    assert found == expected and type(found) is type(expected)


def test_where_a_task_takes_text_numbers_become_text() -> None:
    document = {
        "command": ["seq", "${n}"], "env": {"YES": "${yes}"}, "labels": {"f": "${f}"},
        "priority": "${n}", "python": {"args": ["${n}"]}, "http": {"headers": {"N": "${n}"},
        "body": "${n}"}, "map": {"task": {"command": ["${n}"]}, "items": ["${n}"]},
        "workflow": {"tasks": [{"stdin": "${n}", "nice": "${n}"}]},
    }  # fmt: skip
    assert Filling(VALUES, 1_000).fill(document, "task") == {
        "command": ["seq", "3"], "env": {"YES": "true"}, "labels": {"f": "1.5"},
        "priority": 3, "python": {"args": [3]}, "http": {"headers": {"N": "3"}, "body": 3},
        "map": {"task": {"command": ["3"]}, "items": [3]},
        "workflow": {"tasks": [{"stdin": "3", "nice": 3}]},
    }  # fmt: skip
    assert Filling(VALUES, 100).fill({"command": "${list}"}, "task") == {"command": [1, "b"]}


def test_null_leaves_the_field_or_the_item_out_and_a_written_null_stays() -> None:
    document = {"gone": "${null}", "kept": None, "list": ["${null}", "x", None]}
    assert fill(document) == {"kept": None, "list": ["x", None]}


def test_what_was_filled_in_is_not_looked_at_again_and_field_names_are_left() -> None:
    values = {"a": "${b}", "b": "no"}
    assert Filling(values, 100).fill({"${b}": ["${a}", "x${a}"]}) == {"${b}": ["${b}", "x${b}"]}


def test_a_value_is_put_in_only_so_often() -> None:
    filling = Filling({"a": "x" * 100}, 1_000)
    assert filling.fill(["${a}"] * 9 + ["${a}!"])[-1].endswith("!")
    assert filling.left == 0
    with pytest.raises(TooMuch):
        filling.fill("${a}")


def test_places_are_found_where_they_stand() -> None:
    document = {"a/b": ["x", "${one} ${two}"], "c": {"d": "$${no}${"}, "${key}": 1}
    assert list(places(document)) == [
        Place("/a~1b/1", "one"),
        Place("/a~1b/1", "two"),
        Place("/c/d", None),
        Place("/${key}", "key", is_in_name=True),
    ]
    assert [p.name for p in places(["${}", "${a b}", "${1}", "${x:-1}", "${a", "${_a1}"])] == [
        None, None, None, None, None, "_a1",
    ]  # fmt: skip


def test_one_place_alone() -> None:
    assert is_place("${a}")
    assert not any(map(is_place, ("${a} ", "$${", "a", "${a}${b}", 1, None)))
