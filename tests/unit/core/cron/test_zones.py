from __future__ import annotations

import datetime as dt
import zoneinfo
from importlib import resources
from pathlib import Path

import pytest

from raftsched.core.cron.zones import names, tzdata_version, zone


def test_version_is_the_databases_own() -> None:
    version = tzdata_version()
    assert version[:4].isdigit() and version[4:].isalpha()


def test_every_name_is_a_zone() -> None:
    assert {"UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"} <= names()
    for name in names():
        assert zone(name).utcoffset(dt.datetime(2030, 6, 1)) is not None


@pytest.mark.parametrize(
    "name", ["", "Europe", "Europe/Paris\0", "../tzdata/zones", "/etc/localtime", "europe/berlin"]
)
def test_what_is_no_zone_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(KeyError):
        zone(name)


def test_machines_own_zone_files_are_not_asked(tmp_path: Path) -> None:
    tokyo = resources.files("tzdata").joinpath("zoneinfo/Asia/Tokyo").read_bytes()
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Rome").write_bytes(tokyo)
    zone.cache_clear()
    zoneinfo.reset_tzpath(to=[tmp_path])
    try:
        found = zone("Europe/Rome").utcoffset(dt.datetime(2030, 1, 1))
    finally:
        zoneinfo.reset_tzpath()
    assert found == dt.timedelta(hours=1)
