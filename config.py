"""What an operator may set: one dataclass per section, and which values go together.

A value comes from the flags, else from the environment, else from the TOML file, else from the default that
stands beside the field with its unit and its reason:

* file: ``[listener]`` with ``port = 8470`` in it;
* environment: ``KITH_LISTENER_PORT=8470``;
* flags: ``--set listener.port=8470``.

A list is given in the environment and in flags with commas, a table (``auth.jwt``) as JSON. A relative path
in the file starts at the file's folder, elsewhere at the working folder. Unknown keys and impossible values are
refused, all of them at once, each with the place it stands in, its key and the reason. Nothing is read when
this module is imported; `load` gets the environment from its caller.
"""

from __future__ import annotations

import ipaddress
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import settings
from settings import setting

DEFAULT_SECRET = "6b697468" * 8
"""What every checkout knows is no secret: good where no other machine reaches the node, refused elsewhere."""

SECRET_BYTES = 32
"""Of auth.secret: as much as the digests that are keyed with it."""

RESERVED_FILES = 256
"""Files that are not connections: database and its readers, log, listeners, key files, links, a margin."""

MOST_PER_S = 1_000_000
"""Of any rate: more than a node can do, so that a rate says the same as none."""

YEAR_S = 366 * 86_400
"""The longest of the windows, in seconds; what multiplies it stays far below 2**53."""

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Node:
    """The process and its folder."""

    folder: Path = setting(Path("data"), "Database, lock and command socket of this node. One node at a time locks the folder.")
    stop_timeout_s: float = setting(
        10.0,
        "On a stop, how long what was taken may take to be answered, and to leave, before the connections are cut.",
        "seconds",
        at_least=0,
        at_most=600,
    )


@dataclass(frozen=True, slots=True)
class Listener:
    """The public port: WebSocket at /ws, everything else HTTP."""

    host: str = setting(
        "127.0.0.1",
        "Address to listen on. Other than loopback needs TLS here, or a proxy named in behind_proxy.",
    )
    port: int = setting(8470, "Port to listen on; 0 takes any free one (tests).", at_least=0, at_most=65535)
    tls_certificate: Path | None = setting(
        None, "Certificate chain in PEM; read again on SIGHUP, so that renewal needs no restart."
    )
    tls_key: Path | None = setting(None, "Private key of the certificate in PEM; read again on SIGHUP.")
    origins: tuple[str, ...] = setting(
        (),
        "Web pages that may connect, as scheme://host[:port]. Empty: only pages of the host they connect to."
        " Programs other than browsers send no origin and are not concerned.",
    )
    behind_proxy: tuple[str, ...] = setting(
        (),
        "Networks of the proxies that are believed about the client's address, as 10.0.0.0/8.",
    )
    client_address: str = setting(
        "x-forwarded-for",
        "Where those proxies write the client's address.",
        one_of=("x-forwarded-for", "proxy-protocol"),
    )
    backlog: int = setting(
        1024,
        "Connections the kernel holds until they are accepted; after a cut a crowd returns at once.",
        "connections",
        at_least=1,
        at_most=65535,
    )


@dataclass(frozen=True, slots=True)
class Internal:
    """The operator's port: /metrics, /healthz, /readyz. It has no passwords: keep it off public networks."""

    host: str = setting("127.0.0.1", "Loopback, or a private address that the monitoring reaches.")
    port: int = setting(8471, "Port to listen on; 0 takes any free one (tests).", at_least=0, at_most=65535)


@dataclass(frozen=True, slots=True)
class Storage:
    """The embedded store. A commit is always on disk before anybody is told (synchronous=FULL)."""

    reader_threads: int = setting(
        2,
        "Threads that read beside the writer; more pays when the store outgrows memory.",
        "threads",
        at_least=1,
        at_most=64,
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection, account or address may take. A device is told those of the wire in its welcome."""

    max_connections: int = setting(
        0,
        f"Connections at a time; beyond, 1013. 0: the process's limit of open files less {RESERVED_FILES}.",
        "connections",
        at_least=0,
        at_most=10_000_000,
    )
    connections_per_address: int = setting(
        1000,
        "Connections from one address: an office behind one router.",
        "connections",
        at_least=1,
        at_most=10_000_000,
    )
    connects_per_address_s: float = setting(
        100.0,
        "New connections a second from one address; bursts of ten times as many.",
        "1/second",
        at_least=0.1,
        at_most=MOST_PER_S,
    )
    frame_bytes: int = setting(
        64 * KIB, "A whole WebSocket message, fragments joined.", "bytes", at_least=32 * KIB, at_most=64 * KIB
    )
    outbox_bytes: int = setting(
        512 * KIB,
        "Bytes that wait for a device that reads slowly; beyond, nothing is queued and it is behind.",
        "bytes",
        at_least=16 * KIB,
        at_most=64 * MIB,
    )
    connection_commands_s: float = setting(
        200.0, "Commands a second on one connection, and as many at once.", "1/second", at_least=0.1, at_most=MOST_PER_S
    )
    account_commands_s: float = setting(
        400.0,
        "Commands a second of one account, all devices; bursts of four times as many.",
        "1/second",
        at_least=0.1,
        at_most=MOST_PER_S,
    )
    address_commands_s: float = setting(
        5000.0, "Commands a second from one address, and as many at once.", "1/second", at_least=0.1, at_most=MOST_PER_S
    )
    hello_timeout_s: float = setting(
        10.0,
        "From the connection to its hello, TLS and upgrade included.",
        "seconds",
        at_least=0.1,
        at_most=120,
    )
    heartbeat_s: float = setting(
        25.0,
        "Silence after which the server sends a frame, before routers forget the connection at 30 s.",
        "seconds",
        at_least=5,  # what is due is looked for once a second, and clients give up after 1.5 times this
        at_most=600,
    )
    stalled_write_s: float = setting(
        30.0, "A socket that takes no byte for so long is closed (SLOW).", "seconds", at_least=1, at_most=600
    )
    subscriptions: int = setting(256, "Users whose presence one device follows.", "users", at_least=0, at_most=65536)
    group_members: int = setting(1024, "Members of one group.", "members", at_least=2, at_most=100_000)
    history_page_messages: int = setting(200, "Messages of one page of history.", "messages", at_least=1, at_most=1000)
    history_page_bytes: int = setting(256 * KIB, "Bytes of one page of history.", "bytes", at_least=16 * KIB, at_most=16 * MIB)
    edit_window_s: int = setting(
        900,
        "How long after sending a message may be edited; later, others have built on it.",
        "seconds",
        at_least=0,
        at_most=YEAR_S,
    )


ALGORITHMS = ("HS256", "EdDSA")
"""Of JWTs. One shared key or one key pair: nothing to negotiate, and each issuer has exactly one."""

HS256_KEY_BYTES = 32
"""RFC 7518, section 3.2: a key of at least the size of the hash output."""


@dataclass(frozen=True, slots=True)
class JwtIssuer:
    """A product whose signed tokens are exchanged for device sessions: one ``[[auth.jwt]]`` table each.

    An issuer that changes its key stands twice for a while.
    """

    issuer: str = setting("", "The `iss` claim. Users are told apart by issuer and subject.")
    audience: str = setting("", "The `aud` claim that a token must carry.")
    algorithm: str = setting("HS256", "The only algorithm this issuer's tokens may use.", one_of=ALGORITHMS)
    key: str = setting(
        "",
        "HS256: a shared text of at least 32 bytes. EdDSA: the issuer's Ed25519 public key, in PEM or as a JWK.",
        secret=True,
    )
    name_claim: str = setting("preferred_username", "The claim that proposes a user name; a token may do without.")


@dataclass(frozen=True, slots=True)
class Auth:
    """Accounts, passwords and tokens."""

    secret: str = setting(
        DEFAULT_SECRET,
        "32 random bytes in hexadecimal, from which the node derives its keys. With another one, invitations, invite links of"
        " groups and the memory of repeated commands are void: keep it with the backups. Log-ins stay (revoke ends them).",
        secret=True,
    )
    registration: str = setting(
        "open",
        "Who may make an account: anybody, who has an invitation, nobody.",
        one_of=("open", "invite", "closed"),
    )
    argon2_memory_kib: int = setting(
        19 * KIB,
        "Memory of one Argon2id hash (OWASP: 19 MiB, 2 passes, 1 lane).",
        "KiB",
        at_least=8,
        at_most=4 * MIB,
    )
    argon2_passes: int = setting(2, "Passes of one Argon2id hash.", at_least=1, at_most=100)
    argon2_threads: int = setting(
        1, "Hashes at a time, each on its own thread, away from the loop.", "threads", at_least=1, at_most=64
    )
    argon2_queue: int = setting(
        64,
        "Hashes that wait; beyond, the answer is *busy*: at 25 ms each the last waits 1.6 s.",
        "hashes",
        at_least=1,
        at_most=10_000,
    )
    attempts: int = setting(
        10,
        "Failed log-ins for one account from one address within attempts_window_s. Never per account alone,"
        " which would let anybody lock its owner out.",
        "attempts",
        at_least=1,
        at_most=1_000_000,
    )
    attempts_per_address: int = setting(
        100, "Failed log-ins from one address within attempts_window_s.", "attempts", at_least=1, at_most=1_000_000
    )
    attempts_window_s: int = setting(300, "The time in which failed attempts count.", "seconds", at_least=1, at_most=YEAR_S)
    token_rotation_days: int = setting(
        30,
        "Age at which a device's token is replaced; the old one works until the new one is used.",
        "days",
        at_least=1,
        at_most=36500,
    )
    reset_code_minutes: int = setting(60, "How long a code for a new password holds.", "minutes", at_least=1, at_most=527_040)
    jwt: tuple[JwtIssuer, ...] = setting(
        (), "Issuers whose tokens are accepted: [[auth.jwt]] tables of issuer, audience, algorithm and key."
    )


@dataclass(frozen=True, slots=True)
class Retention:
    """What is forgotten, and when."""

    dead_device_days: int = setting(
        90,
        "Silence after which a device is forgotten, with what was kept for it.",
        "days",
        at_least=1,
        at_most=36500,
    )
    message_days: int = setting(
        0,
        "Age at which every message of conversations and groups is gone, whatever their own timer says; 0: they are kept. Holds"
        " for messages sent from then on.",
        "days",
        at_least=0,
        at_most=36500,
    )
    change_feed_days: int = setting(
        7, "How far back a follower of the change feed can resume.", "days", at_least=1, at_most=3650
    )


@dataclass(frozen=True, slots=True)
class Log:
    """What the node says about itself, on standard error."""

    level: str = setting("info", "The least severe level written.", one_of=("debug", "info", "warning", "error"))
    format: str = setting("console", "For people, or one JSON object a line.", one_of=("console", "json"))


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that was set. `source` is the file it came from, where there was one."""

    node: Node = Node()
    listener: Listener = Listener()
    internal: Internal = Internal()
    storage: Storage = Storage()
    limits: Limits = Limits()
    auth: Auth = Auth()
    retention: Retention = Retention()
    log: Log = Log()
    source: Path | None = None

    @property
    def command_socket(self) -> Path:
        """The Unix socket (mode 0600) by which the command line talks to the running node."""
        return self.node.folder / "kith.sock"


SECTIONS: dict[str, type] = {name: kind for name, kind in typing.get_type_hints(Config).items() if name != "source"}
"""Each section's name and dataclass, in the order in which they are shown."""


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Config:
    """The configuration from a TOML file (or none), the environment and flags (``{"listener.port": "80"}``).

    Raises `settings.ConfigError` with every unknown key and impossible value. Whether it may serve strangers
    is another question: `check`.
    """
    found = settings.Settings(SECTIONS)
    if file is not None:
        found.read_file(file)
    found.read_environment(environ, "KITH_")
    found.read_flags(flags)
    config = Config(**{name: found.section(name) for name in SECTIONS}, source=file)
    for keys, reason in _contradictions(config):
        found.blame(keys, reason)
    if found.problems:
        raise settings.ConfigError(found.problems)
    return config


def describe() -> Iterator[settings.Setting]:
    """Every setting with its default, unit, bounds and reason, for `--help` and the documents."""
    for name, schema in SECTIONS.items():
        yield from settings.declared(schema, name)


def secret_keys() -> tuple[str, ...]:
    """The settings that a first configuration must fill with 32 random bytes in hexadecimal."""
    return tuple(each.key for each in describe() if each.secret)


def default_toml(secrets: Mapping[str, str]) -> str:
    """A first configuration, to be written as ``kith.toml`` into the node's folder.

    `secrets` has a value for each of `secret_keys`; everything else is shown with its default and its reason.
    """
    head = (
        "# Kith's configuration. A line without '#' is in force; the others show the defaults.\n"
        "# A value can also be given as KITH_SECTION_KEY in the environment or as --set section.key=value.\n"
        "# Relative paths start at this file's folder.\n\n"
    )
    return head + settings.as_toml(SECTIONS, {"node.folder": ".", **secrets})


def connection_limit(limits: Limits, file_limit: int) -> int:
    """How many connections the process takes: what was set, or what `file_limit` (RLIMIT_NOFILE) leaves.

    Raises `settings.ConfigError` when more was set than the limit allows, or when the limit leaves nothing.
    """
    room = file_limit - RESERVED_FILES
    if limits.max_connections > room or room < 1:
        reason = f"the process may open {file_limit} files, {RESERVED_FILES} of them for itself; raise `ulimit -n`"
        raise settings.ConfigError([f"limits.max_connections: {reason}"])
    return limits.max_connections or room


def _contradictions(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Values that are impossible together or that no bound can describe: the keys, and the reason."""
    listener, limits = config.listener, config.limits
    if (listener.tls_certificate is None) != (listener.tls_key is None):
        yield ("listener.tls_certificate", "listener.tls_key"), "a certificate and its key come together"
    if listener.port == config.internal.port != 0:
        yield ("internal.port", "listener.port"), "the public and the internal port must differ"
    for network in listener.behind_proxy:
        try:
            everybody = ipaddress.ip_network(network).prefixlen == 0
        except ValueError as error:
            yield ("listener.behind_proxy",), f"{error}; a network is written as 10.0.0.0/8 or 192.0.2.7"
            continue
        if everybody:
            yield ("listener.behind_proxy",), f"{network} is everybody, who could then claim any address; name the proxies"
    for origin in listener.origins:
        scheme, separator, rest = origin.partition("://")
        if scheme not in ("http", "https") or not separator or not rest or "/" in rest:
            yield (
                ("listener.origins",),
                f"{origin!r} is no origin; one is written as https://chat.example.org",
            )
    if limits.outbox_bytes < limits.frame_bytes:
        yield ("limits.outbox_bytes", "limits.frame_bytes"), "the outbox must hold at least one whole frame"
    yield from _contradictions_of_auth(config.auth)


def _contradictions_of_auth(auth: Auth) -> Iterator[tuple[tuple[str, ...], str]]:
    try:
        has_size = len(bytes.fromhex(auth.secret)) == SECRET_BYTES
    except ValueError:
        has_size = False
    if not has_size:
        yield ("auth.secret",), f"must be {SECRET_BYTES} bytes in hexadecimal ({2 * SECRET_BYTES} digits)"
    for index, each in enumerate(auth.jwt):
        where = f"[{index}]"
        for name in ("issuer", "audience", "key"):
            if not getattr(each, name):
                yield ("auth.jwt",), f"{where}.{name}: must be given"
        if each.algorithm == "HS256" and 0 < len(each.key.encode()) < HS256_KEY_BYTES:
            yield (
                ("auth.jwt",),
                f"{where}.key: must have at least {HS256_KEY_BYTES} bytes (RFC 7518, section 3.2)",
            )
        is_public = "PUBLIC KEY" in each.key or ("{" in each.key and '"d"' not in each.key)
        if each.algorithm == "EdDSA" and each.key and not is_public:
            yield ("auth.jwt",), f"{where}.key: must be a public key, in PEM or as a JWK"


# --- may this configuration serve strangers? ----------------------------------------------------------------


def check(config: Config) -> list[str]:
    """The reasons why a node with this configuration must not start; empty when it may.

    A listener that others reach needs TLS, its own or a named proxy's, and a secret of its own; one behind a proxy is
    reached by others wherever it listens. The internal port has no passwords and stays on loopback or a private address.
    """
    place = str(config.source or "configuration")
    reasons = []
    exposed = not _is_loopback(config.listener.host)
    if exposed and config.listener.tls_certificate is None and not config.listener.behind_proxy:
        reasons.append(
            f"{place}: listener.host: other machines reach {config.listener.host}, and passwords would"
            " travel in the clear; set listener.tls_certificate and listener.tls_key, or name the proxy"
            " that ends TLS in listener.behind_proxy"
        )
    if (exposed or config.listener.behind_proxy) and config.auth.secret == DEFAULT_SECRET:
        reasons.append(f"{place}: auth.secret: is the one that everybody knows; set {SECRET_BYTES} random bytes in hexadecimal")
    if not _is_private(config.internal.host):
        reasons.append(
            f"{place}: internal.host: {config.internal.host} may be reached by anybody, and this port has no"
            " passwords; use loopback or the private address that the monitoring reaches"
        )
    return reasons


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"  # any other name may mean any address


def _is_private(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_private and not address.is_unspecified
