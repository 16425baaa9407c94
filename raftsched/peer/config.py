"""A peer's configuration: ``cluster.toml`` becomes one frozen value here, and is trusted after.

Every complaint is one line that names the file, the key and what to do (`ConfigError`).
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from raftsched.raft.config import TlsFiles as TlsFiles
from raftsched.raft.credentials import Credentials, TlsError
from raftsched.raft.files import Identity
from raftsched.raft.host import SystemClock

logger = logging.getLogger(__name__)

#: Bounds a configuration must keep.
PEERS_MAX = 9
#: In UTF-8; with two ids of peers it must fit a handshake, and be a certificate's common name.
CLUSTER_ID_BYTES_MAX = 64
PEER_ID_BYTES_MAX = 32
SLOTS_MAX = 10_000
APPS_MAX = 32
WORKERS_MAX = 256
LEASE_SECONDS_MIN = 2.0
LEASE_SECONDS_MAX = 3_600.0
#: The journal's entries hold whole numbers of 64 bits with a sign.
MEMORY_BYTES_MAX = 2**63 - 1


class ConfigError(Exception):
    """The configuration cannot be used; the text says which key and what to do."""


class PeerAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where one peer listens, each as ``host:port``."""

    raft: str
    api: str


#: How many there are of something.
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class PeerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All that one peer needs to know to start."""

    cluster_id: str
    peer_id: str
    #: All peers by id, this one among them.
    peers: dict[str, PeerAddress]
    data_dir: Path
    #: Attempts this node runs at once; 0 means four per core.
    slots: int = 0
    #: Capacity offered to tasks that ask for some; 0 means what the machine has.
    cpu_milli: int = 0
    memory_bytes: int = 0
    labels: dict[str, str] = {}
    #: What tasks may hold beside cpu and memory, counted: ``{"gpu": 2}``.
    resources: dict[str, Count] = {}
    #: Applications whose functions this node calls, each ``package.module:name``.
    apps: tuple[str, ...] = ()
    #: Worker processes of each for ordinary functions; 0 means one per core.
    workers: int = 0
    #: How long an attempt may run without word from the leader.
    lease_seconds: float = 15.0
    #: HTTP attempts may reach addresses that are not public; and those where clouds keep metadata.
    http_private: bool = True
    http_metadata: bool = False
    #: Directory of cgroup v2 that is this node's to use, for a group per attempt; empty: none.
    cgroup: str = ""
    #: Allows addresses other than loopback although nothing is encrypted; logged at every start.
    insecure: bool = False
    #: The same for the HTTP API alone; connections between peers need `tls` then.
    insecure_http: bool = False
    #: For connections between peers; None: they are not encrypted.
    tls: TlsFiles | None = None
    #: Bearer token of the whole cluster; see `token_from`.
    token: str = ""
    #: Host names beside loopback and the configured addresses that requests may name.
    hosts: tuple[str, ...] = ()
    #: An empty directory is that of a peer that is to be added to a cluster there is (`--join`).
    joins: bool = False
    #: Check all invariants after every entry (slow; for hunting bugs).
    paranoid: bool = False

    @property
    def address(self) -> PeerAddress:
        """Where this peer listens."""
        return self.peers[self.peer_id]


class _Cluster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    insecure: bool = False
    insecure_http: bool = False
    token_file: str = ""
    hosts: tuple[str, ...] = ()


class _Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slots: int = 0
    cpu: str | float = 0
    memory: str | int = 0
    lease_seconds: float = 15.0
    labels: dict[str, str] = {}
    resources: dict[str, Count] = {}
    apps: tuple[str, ...] = ()
    workers: int = 0


class _Executor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    http_private: Literal["allow", "deny"] = "allow"
    http_metadata: Literal["allow", "deny"] = "deny"
    cgroup: str = ""


class _Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ca: str = ""
    cert: str = ""
    key: str = ""


class _Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    raft: str
    api: str
    #: What of [tls] is different for this peer.
    tls: _Tls = _Tls()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cluster: _Cluster
    peers: dict[str, _Peer]
    tls: _Tls = _Tls()
    node: _Node = _Node()
    executor: _Executor = _Executor()


_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parse_bytes(value: str | int) -> int:
    """``"256MiB"`` or a whole number to bytes; ValueError says what is allowed."""
    size = value if isinstance(value, int) else _sized(value)
    if not 0 <= size <= MEMORY_BYTES_MAX:
        raise ValueError(f"{value!r} is not between 0 and {MEMORY_BYTES_MAX} bytes")
    return size


def _sized(value: str) -> int:
    digits = value.rstrip("KMGTiB ")
    unit = value[len(digits) :].strip()
    if not _is_number(digits) or unit not in _UNITS:
        raise ValueError(f"{value!r} is not a size; write for example 256MiB or 4GiB")
    return int(digits) * _UNITS[unit]


def _is_number(text: str) -> bool:
    """Decimal digits, and not so many that ``int`` would refuse them."""
    return text.isascii() and text.isdigit() and len(text) <= 20


def parse_cpu(value: str | float) -> int:
    """``"0.5"`` or 2 to milli-cores; ValueError says what is allowed."""
    try:
        milli = round(float(value) * 1000)
    except (ValueError, OverflowError):
        milli = -1
    if not 0 <= milli <= 1_000_000_000:
        raise ValueError(f"{value!r} is not a number of cores; write for example 0.5 or 2")
    return milli


def load_config(path: Path, peer_id: str, data_dir: Path) -> PeerConfig:
    """Read ``cluster.toml`` for one peer.  Reads and, if there is none, makes the token file."""
    config, token_path = parse_config(path, peer_id, data_dir)
    return msgspec.structs.replace(config, token=token_from(token_path))


def parse_config(path: Path, peer_id: str, data_dir: Path) -> tuple[PeerConfig, Path]:
    """The configuration without its token, and where that is; touches no file but ``path``."""
    parsed = _read(path)
    node = parsed.node
    try:
        cpu_milli = parse_cpu(node.cpu)
    except ValueError as error:
        raise ConfigError(f"{path}: node.cpu: {error}") from None
    try:
        memory_bytes = parse_bytes(node.memory)
    except ValueError as error:
        raise ConfigError(f"{path}: node.memory: {error}") from None
    if peer_id not in parsed.peers:
        known = ", ".join(sorted(parsed.peers))
        raise ConfigError(f"{path}: no [peers.{peer_id}]; --id must be one of: {known}")
    config = PeerConfig(
        cluster_id=parsed.cluster.id,
        peer_id=peer_id,
        peers={name: PeerAddress(peer.raft, peer.api) for name, peer in parsed.peers.items()},
        data_dir=data_dir,
        slots=node.slots,
        cpu_milli=cpu_milli,
        memory_bytes=memory_bytes,
        labels=node.labels,
        resources=node.resources,
        apps=node.apps,
        workers=node.workers,
        lease_seconds=node.lease_seconds,
        http_private=parsed.executor.http_private == "allow",
        http_metadata=parsed.executor.http_metadata == "allow",
        cgroup=parsed.executor.cgroup,
        insecure=parsed.cluster.insecure,
        insecure_http=parsed.cluster.insecure_http,
        tls=_tls_files(path, parsed, peer_id),
        hosts=parsed.cluster.hosts,
    )
    try:
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    token_file = parsed.cluster.token_file
    token_path = path.parent / token_file if token_file else data_dir / "token"
    return config, token_path


def _tls_files(path: Path, parsed: _File, peer_id: str) -> TlsFiles | None:
    """The files of [tls], or of [peers.ID.tls] where that names others; None when none does."""
    common, own = parsed.tls, parsed.peers[peer_id].tls
    names = {key: getattr(own, key) or getattr(common, key) for key in ("ca", "cert", "key")}
    if not any(names.values()):
        return None
    for key, name in names.items():
        if not name:
            raise ConfigError(f"{path}: tls.{key} is missing; [tls] needs ca, cert and key")
    return TlsFiles(**{key: path.parent / name for key, name in names.items()})


def _read(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; copy cluster.toml.example and edit it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number of too many digits.
        raise ConfigError(f"{path}: not TOML: {error}") from None
    try:
        return msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}; see cluster.toml.example") from None


def check(config: PeerConfig) -> None:
    """Raise ConfigError for what no peer may start with."""
    check_cluster_id(config.cluster_id)
    if config.peer_id not in config.peers:
        raise ConfigError(f"peer {config.peer_id!r} is not among the peers")
    if not 1 <= len(config.peers) <= PEERS_MAX:
        raise ConfigError(f"{len(config.peers)} peers; 1 to {PEERS_MAX} are supported")
    if not 0 <= config.slots <= SLOTS_MAX:
        raise ConfigError(f"node.slots is {config.slots}; allowed are 0 to {SLOTS_MAX}")
    if not LEASE_SECONDS_MIN <= config.lease_seconds <= LEASE_SECONDS_MAX:
        raise ConfigError(
            f"node.lease_seconds is {config.lease_seconds}; "
            f"allowed are {LEASE_SECONDS_MIN} to {LEASE_SECONDS_MAX}"
        )
    _check_apps(config)
    if config.cgroup and not config.cgroup.startswith("/"):
        raise ConfigError(f"executor.cgroup is {config.cgroup!r}; write an absolute path")
    _check_addresses(config)


def _check_apps(config: PeerConfig) -> None:
    """Their form only: whether they can be imported shows in a worker."""
    if len(config.apps) > APPS_MAX:
        raise ConfigError(f"node.apps has {len(config.apps)} entries; at most {APPS_MAX}")
    for app in config.apps:
        module, colon, name = app.partition(":")
        words = [*module.split("."), *name.split(".")]
        if not colon or not all(word.isidentifier() for word in words):
            raise ConfigError(
                f"node.apps has {app!r}; write package.module:name, for example images:app"
            )
    if len(set(config.apps)) < len(config.apps):
        raise ConfigError("node.apps names an application twice")
    if not 0 <= config.workers <= WORKERS_MAX:
        raise ConfigError(f"node.workers is {config.workers}; allowed are 0 to {WORKERS_MAX}")


def check_cluster_id(cluster_id: str) -> None:
    """Raise ConfigError for what cannot be a cluster's id."""
    size = len(cluster_id.encode(errors="replace"))
    if not 1 <= size <= CLUSTER_ID_BYTES_MAX or not cluster_id.isprintable():
        raise ConfigError(
            f"cluster.id must have 1 to {CLUSTER_ID_BYTES_MAX} characters (bytes of UTF-8)"
        )


def check_peer_id(peer_id: str) -> None:
    """Raise ConfigError for what cannot be a peer's id."""
    is_word = peer_id.isascii() and peer_id.replace("-", "").isalnum()
    if not is_word or len(peer_id) > PEER_ID_BYTES_MAX:
        raise ConfigError(
            f"peers.{peer_id}: an id has 1 to {PEER_ID_BYTES_MAX} letters, digits or hyphens"
        )


def _check_addresses(config: PeerConfig) -> None:
    """Each its own, and none but loopback for what is not encrypted."""
    seen: dict[tuple[str, str], str] = {}
    for peer_id, address in sorted(config.peers.items()):
        check_peer_id(peer_id)
        machine, _ = split_address(f"peers.{peer_id}.raft", address.raft)
        for name, value in (("raft", address.raft), ("api", address.api)):
            key = f"peers.{peer_id}.{name}"
            host, _ = split_address(key, value)
            # Loopback of two machines is not the same place.
            place = ("" if not is_loopback(host) or is_loopback(machine) else machine, value)
            if place in seen:
                raise ConfigError(f"{key} is {value}, which {seen[place]} has already")
            seen[place] = key
            if is_loopback(host) or config.insecure:
                continue
            if name == "raft" and config.tls is None:
                raise ConfigError(
                    f"{key} is {value}: anything but loopback needs [tls] "
                    "(see 'raftsched init'), or cluster.insecure = true, unencrypted"
                )
            if name == "api" and not config.insecure_http:
                raise ConfigError(
                    f"{key} is {value}: HTTP is not encrypted in this version, so anything but "
                    "loopback needs cluster.insecure_http = true"
                )


def check_tls(config: PeerConfig) -> None:
    """Raise ConfigError when the files of [tls] cannot be used by this peer; reads them."""
    if config.tls is None:
        return
    owner = Identity(config.cluster_id, config.peer_id)
    try:
        Credentials(config.tls, owner, SystemClock().wall_ms).load()
    except TlsError as error:
        raise ConfigError(str(error)) from None


def warn_of_what_is_open(config: PeerConfig) -> None:
    """Log, at every start, what others on the network can read."""
    if config.insecure and config.tls is None:
        logger.warning("insecure = true: traffic of this cluster is not encrypted")
    elif not is_loopback(split_address("api", config.address.api)[0]):
        flag = "insecure_http" if config.insecure_http else "insecure"
        logger.warning(
            "%s = true: HTTP on %s is not encrypted; whoever can read it reads the token",
            flag,
            config.address.api,
        )


def split_address(key: str, value: str) -> tuple[str, int]:
    """``host:port`` in two; ConfigError names ``key``."""
    host, colon, port = value.rpartition(":")
    if not colon or not host or not _is_number(port) or not 0 < int(port) < 65_536:
        raise ConfigError(f"{key} is {value!r}; write host:port, for example 127.0.0.1:7400")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Does ``host`` stay on this machine?  A name other than localhost does not count."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token_from(path: Path) -> str:
    """The cluster's bearer token from its file; made (mode 0600) when there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            token = path.read_text(encoding="ascii").strip()
        else:
            token = secrets.token_urlsafe(32)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(token + "\n")
            logger.warning("%s was not there: a new token was made; all peers need the same", path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: token file cannot be used: {error}") from None
    if len(token) < 16:
        raise ConfigError(f"{path}: token is shorter than 16 characters; copy that of another peer")
    return token
