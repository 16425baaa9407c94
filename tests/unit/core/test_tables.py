"""Tables: a dictionary in shards whose frozen view stays as it was."""

from __future__ import annotations

from raftsched.core.tables import SHARDS, Table, shard_of

#: Enough keys that some shards hold many and no operation depends on one shard alone.
KEYS = [f"key{number}" for number in range(5 * SHARDS)]


def filled() -> Table[int]:
    """A table with every key."""
    table: Table[int] = Table()
    for number, key in enumerate(KEYS):
        table.put(key, number)
    return table


def rows(view: list[dict[str, int]]) -> dict[str, int]:
    """All rows of a frozen view."""
    return {key: row for shard in view for key, row in shard.items()}


EVERYTHING = {key: number for number, key in enumerate(KEYS)}


def test_a_table_is_a_dictionary() -> None:
    table = filled()
    assert len(table) == len(KEYS)
    assert dict(table.items()) == EVERYTHING
    assert sorted(table.values()) == sorted(EVERYTHING.values())
    assert all(table.get(key) == row for key, row in EVERYTHING.items())
    assert "key0" in table
    assert "nothing" not in table
    assert table.get("nothing") is None


def test_a_put_replaces_and_counts_once() -> None:
    table = filled()
    table.put("key0", -1)
    assert (table.get("key0"), len(table)) == (-1, len(KEYS))


def test_a_pop_gives_the_row_and_then_nothing() -> None:
    table = filled()
    assert (table.pop("key7"), table.pop("key7")) == (7, None)
    assert table.pop("nothing") is None
    assert ("key7" in table, len(table)) == (False, len(KEYS) - 1)


def test_two_tables_filled_alike_iterate_alike() -> None:
    assert list(filled().items()) == list(filled().items())
    assert list(filled().values()) == [row for _, row in filled().items()]


def test_the_shard_of_a_key_is_the_same_on_every_peer() -> None:
    # Values of CRC-32: they may change only with the version of the snapshot.
    assert [shard_of(key) for key in ("", "a", "t1", "0190-uuid")] == [0, 579, 567, 188]
    assert {shard_of(key) for key in KEYS} <= set(range(SHARDS))


def test_a_view_stays_as_it_was_while_the_table_goes_on() -> None:
    table = filled()
    view = table.freeze()
    for key in KEYS[::2]:
        table.put(key, -1)
    for key in KEYS[::3]:
        table.pop(key)
    table.put("new", 1)
    assert rows(view) == EVERYTHING
    changed = EVERYTHING | dict.fromkeys(KEYS[::2], -1) | {"new": 1}
    assert dict(table.items()) == {k: v for k, v in changed.items() if k not in KEYS[::3]}
    assert len(table) == len(dict(table.items()))


def test_a_view_is_not_moved_by_a_pop_of_what_is_not_there() -> None:
    table = filled()
    view = table.freeze()
    assert table.pop("nothing") is None
    assert rows(view) == EVERYTHING == dict(table.items())


def test_a_second_view_shows_what_was_written_after_the_first() -> None:
    table = filled()
    first = table.freeze()
    table.put("key0", -1)
    second = table.freeze()
    table.put("key0", -2)
    assert (rows(first)["key0"], rows(second)["key0"], table.get("key0")) == (0, -1, -2)


def test_shards_nobody_writes_are_shared_with_the_view() -> None:
    table = filled()
    before, after = table.freeze(), table.freeze()
    assert all(one is other for one, other in zip(before, after, strict=True))
    table.put("key0", -1)
    copied = [one is not other for one, other in zip(before, table.freeze(), strict=True)]
    assert sum(copied) == 1 and copied[shard_of("key0")]


def test_a_thawed_table_goes_on() -> None:
    table = filled()
    table.freeze()
    table.put("key0", -1)
    table.thaw()
    table.put("key1", -2)
    table.pop("key2")
    assert (table.get("key0"), table.get("key1"), table.get("key2")) == (-1, -2, None)
    assert len(table) == len(KEYS) - 1


def test_rows_written_before_a_view_survive_its_end() -> None:
    table = filled()
    table.freeze()
    table.thaw()
    assert dict(table.items()) == EVERYTHING
