"""Configuration: where values come from, which are refused, and which node may serve strangers."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import config
import settings

SECRET = "0123456789abcdef" * 4
ALL = list(config.describe())
NUMBERS = [each for each in ALL if each.kind in (int, float)]
CHOICES = [each for each in ALL if each.one_of]
ED25519_PEM = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"


def keys(values: list[settings.Setting]) -> list[str]:
    return [each.key for each in values]


def write(folder: Path, text: str) -> Path:
    path = folder / "kith.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(file: Path | None = None, environ: dict[str, str] | None = None, flags: dict[str, Any] | None = None) -> str:
    with pytest.raises(settings.ConfigError) as caught:
        config.load(file, environ or {}, flags or {})
    return str(caught.value)


def test_without_any_source_the_defaults_hold() -> None:
    assert config.load(None, {}, {}) == config.Config()


def test_the_environment_overrides_the_file_and_flags_override_both(tmp_path: Path) -> None:
    file = write(tmp_path, "[listener]\nport = 1001\nbacklog = 11\n[log]\nlevel = 'debug'\n")
    environ = {"KITH_LISTENER_PORT": "1002", "KITH_LISTENER_BACKLOG": "12", "HOME": "/nowhere"}
    found = config.load(file, environ, {"listener.port": "1003"})
    assert (found.listener.port, found.listener.backlog, found.log.level) == (1003, 12, "debug")
    assert found.source == file


def test_a_relative_path_of_the_file_starts_at_the_files_folder_and_any_other_at_the_working_folder(tmp_path: Path) -> None:
    file = write(tmp_path, "[node]\nfolder = 'here'\n")
    assert config.load(file, {}, {}).node.folder == tmp_path / "here"
    assert config.load(file, {"KITH_NODE_FOLDER": "there"}, {}).node.folder == Path("there")


def test_an_absolute_path_of_the_file_stays(tmp_path: Path) -> None:
    file = write(tmp_path, "[node]\nfolder = '/srv/kith'\n[listener]\ntls_key = ''\n")
    found = config.load(file, {}, {})
    assert found.node.folder == Path("/srv/kith")
    assert found.listener.tls_key is None
    assert found.command_socket == Path("/srv/kith/kith.sock")


def test_lists_come_with_commas_and_tables_as_json() -> None:
    jwt = f'[{{"issuer": "shop", "audience": "kith", "algorithm": "HS256", "key": "{SECRET}"}}]'
    found = config.load(
        None, {"KITH_LISTENER_BEHIND_PROXY": "10.0.0.0/8, ::1", "KITH_AUTH_JWT": jwt}, {"listener.origins": "https://a.example"}
    )
    assert found.listener.behind_proxy == ("10.0.0.0/8", "::1")
    assert found.listener.origins == ("https://a.example",)
    assert found.auth.jwt == (config.JwtIssuer("shop", "kith", "HS256", SECRET),)


def test_a_program_may_give_values_of_the_right_type_as_flags(tmp_path: Path) -> None:
    issuer = config.JwtIssuer("bench", "kith", "HS256", SECRET)
    found = config.load(None, {}, {"auth.jwt": [issuer], "node.folder": tmp_path, "limits.hello_timeout_s": 3})
    assert (found.auth.jwt, found.node.folder, found.limits.hello_timeout_s) == ((issuer,), tmp_path, 3.0)


@pytest.mark.parametrize("each", ALL, ids=keys(ALL))
def test_every_setting_says_what_it_is_for_and_its_default_is_possible(each: settings.Setting) -> None:
    assert each.why
    found = config.load(None, {}, {each.key: each.default if each.default is not None else ""})
    assert found == config.Config()


@pytest.mark.parametrize("each", NUMBERS, ids=keys(NUMBERS))
def test_a_number_outside_its_bounds_is_refused_by_key_and_reason(each: settings.Setting) -> None:
    assert each.at_least is not None
    outside = [each.at_least - 1] + ([] if each.at_most is None else [each.at_most + 1])
    for value in outside:
        text = refusal(flags={each.key: str(value)})
        assert f"--set: {each.key}: must be {each.allowed}" in text


@pytest.mark.parametrize("each", NUMBERS, ids=keys(NUMBERS))
def test_a_number_that_is_none_is_refused(each: settings.Setting, tmp_path: Path) -> None:
    assert each.key in refusal(flags={each.key: "many"})
    file = write(tmp_path, f"[{each.section}]\n{each.name} = true\n")
    assert f"{file}: {each.key}: must be " in refusal(file)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_number_without_a_value_is_refused(text: str) -> None:
    assert "limits.connection_commands_s" in refusal(flags={"limits.connection_commands_s": text})


@pytest.mark.parametrize("each", CHOICES, ids=keys(CHOICES))
def test_a_choice_that_does_not_exist_is_refused_with_those_that_do(each: settings.Setting) -> None:
    assert f"{each.key}: must be one of {each.allowed}, is 'maybe'" in refusal(flags={each.key: "maybe"})


def test_a_number_in_quotes_in_the_file_is_refused_because_the_file_has_types(tmp_path: Path) -> None:
    file = write(tmp_path, "[listener]\nport = '8470'\n")
    assert refusal(file) == f"{file}: listener.port: must be a whole number, is '8470'"


def test_unknown_keys_are_refused_in_every_source_with_the_place_and_a_near_name(tmp_path: Path) -> None:
    file = write(tmp_path, "[listner]\nport = 1\n[listener]\nprot = 1\n")
    text = refusal(file, {"KITH_LOG_LEVLE": "info", "KITH_X": ""}, {"limits.windows": "1"})
    assert text.splitlines() == [
        f"{file}: listner: unknown key; did you mean listener?",
        f"{file}: listener.prot: unknown key; did you mean listener.port?",
        "environment: KITH_LOG_LEVLE: log.levle: unknown key; did you mean log.level?",
        *[line for line in text.splitlines() if line.startswith("environment: KITH_X: x.: unknown key")],
        *[line for line in text.splitlines() if line.startswith("--set: limits.windows: unknown key")],
    ]
    assert len(text.splitlines()) == 5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[listener\n", "is not TOML"),
        ("listener = 1\n", "listener: must be a table"),
        ("[node]\nfolder = 1\n", "must be a path"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused_by_name(tmp_path: Path, content: str, reason: str) -> None:
    file = write(tmp_path, content)
    text = refusal(file)
    assert text.startswith(f"{file}: ")
    assert reason in text


def test_a_file_that_is_missing_or_not_text_is_refused_by_name(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.toml") == f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory"
    (tmp_path / "kith.toml").write_bytes(b"\xff\xfe")
    assert "is not TOML" in refusal(tmp_path / "kith.toml")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"listener.tls_certificate": "a.pem"}, "--set: listener.tls_certificate: a certificate and its key come together"),
        ({"listener.tls_key": "a.pem"}, "--set: listener.tls_key: a certificate and its key come together"),
        ({"internal.port": "8470"}, "--set: internal.port: the public and the internal port must differ"),
        ({"listener.behind_proxy": "proxy.example"}, "--set: listener.behind_proxy: 'proxy.example'"),
        ({"listener.behind_proxy": "10.0.0.1,0.0.0.0/0"}, "--set: listener.behind_proxy: 0.0.0.0/0 is everybody"),
        ({"listener.behind_proxy": "::/0"}, "--set: listener.behind_proxy: ::/0 is everybody"),
        ({"listener.origins": "example.org"}, "--set: listener.origins: 'example.org' is no origin"),
        ({"listener.origins": "https://example.org/chat"}, "--set: listener.origins: "),
        ({"limits.outbox_bytes": "20000"}, "--set: limits.outbox_bytes: the outbox must hold at least one whole frame"),
        ({"auth.secret": "abcd"}, "--set: auth.secret: must be 32 bytes in hexadecimal"),
        ({"auth.secret": "z" * 64}, "--set: auth.secret: must be 32 bytes in hexadecimal"),
        ({"auth.jwt": "[1]"}, "auth.jwt: [0]: must be a table"),
        ({"auth.jwt": "{"}, "auth.jwt: is not JSON"),
        ({"auth.jwt": '[{"issuer": "a", "keys": "b"}]'}, "auth.jwt: [0].keys: unknown key"),
        ({"auth.jwt": '[{"algorithm": "none"}]'}, "auth.jwt: [0].algorithm: must be one of HS256, EdDSA"),
        ({"auth.jwt": '[{"issuer": 7}]'}, "auth.jwt: [0].issuer: must be text"),
        ({"auth.jwt": '[{"issuer": "a", "key": "short"}]'}, "auth.jwt: [0].key: must have at least 32 bytes"),
        ({"auth.jwt": '[{"issuer": "a"}]'}, "auth.jwt: [0].audience: must be given"),
        ({"auth.jwt": f'[{{"issuer": "a", "algorithm": "EdDSA", "key": "{SECRET}"}}]'}, "[0].key: must be a public key"),
    ],
)
def test_what_cannot_work_is_refused_by_place_key_and_reason(flags: dict[str, str], reason: str) -> None:
    assert reason in refusal(flags=flags)


@pytest.mark.parametrize("key", [ED25519_PEM, '{"kty": "OKP", "crv": "Ed25519", "x": "AA"}'])
def test_an_issuer_with_a_key_pair_shows_its_public_key_alone(key: str) -> None:
    issuer = config.JwtIssuer("shop", "kith", "EdDSA", key)
    assert config.load(None, {}, {"auth.jwt": [issuer]}).auth.jwt == (issuer,)
    leaked = key.replace("PUBLIC", "PRIVATE").replace('"x"', '"d": "AA", "x"')
    assert "must be a public key" in refusal(flags={"auth.jwt": [dataclasses.replace(issuer, key=leaked)]})


def test_no_secret_shows_in_an_error_or_in_what_a_configuration_prints() -> None:
    secret = "hunter2-" * 3
    jwt = f'[{{"issuer": "a", "audience": "b", "key": "{secret}"}}]'
    assert "hunter2" not in refusal(flags={"auth.secret": secret, "auth.jwt": jwt})
    assert "hunter2" not in refusal(flags={"auth.jwt": f'[{{"key": ["{secret}"]}}]'})
    loaded = config.load(None, {}, {"auth.secret": SECRET, "auth.jwt": jwt.replace(secret, SECRET)})
    assert SECRET not in repr(loaded)


# --- the first configuration ---


def test_the_first_configuration_sets_its_secrets_and_its_folder_and_nothing_else(tmp_path: Path) -> None:
    text = config.default_toml({"auth.secret": SECRET})
    assert {name: table for name, table in tomllib.loads(text).items() if table} == {
        "node": {"folder": "."},
        "auth": {"secret": SECRET},
    }
    loaded = config.load(write(tmp_path, text), {}, {})
    expected = dataclasses.replace(
        config.Config(),
        node=dataclasses.replace(config.Node(), folder=tmp_path),
        auth=dataclasses.replace(config.Auth(), secret=SECRET),
        source=tmp_path / "kith.toml",
    )
    assert loaded == expected


def test_the_first_configuration_shows_every_setting_with_a_default_that_holds_when_the_comment_is_taken_away(
    tmp_path: Path,
) -> None:
    text = config.default_toml({"auth.secret": config.DEFAULT_SECRET})
    names = "|".join(each.name for each in ALL)
    text = re.sub(rf"^# ((?:{names}) = )", r"\1", text, flags=re.MULTILINE)
    shown = {f"{section}.{name}" for section, table in tomllib.loads(text).items() for name in table}
    assert shown == set(keys(ALL))
    loaded = config.load(write(tmp_path, text), {}, {})
    assert dataclasses.replace(loaded, node=config.Node(), source=None) == config.Config()


def test_every_secret_is_among_those_a_first_configuration_must_bring() -> None:
    assert config.secret_keys() == ("auth.secret",)


@given(st.text(max_size=40).filter(lambda text: "\x7f" not in text))
def test_any_text_survives_being_written_into_a_configuration(text: str) -> None:
    written = settings.as_toml({"listener": config.Listener}, {"listener.host": text})
    assert tomllib.loads(written)["listener"]["host"] == text


# --- who may serve strangers ---


def checked(**values: str) -> list[str]:
    flags = {key.replace("__", "."): value for key, value in values.items()}
    return config.check(config.load(None, {}, flags))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_a_node_for_its_own_machine_may_start_with_the_defaults(host: str) -> None:
    assert checked(listener__host=host) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.4", "203.0.113.9", "chat.example.org"])
def test_a_listener_that_others_reach_needs_tls_and_a_secret_of_its_own(host: str) -> None:
    reasons = checked(listener__host=host)
    assert [reason.split(": ")[1] for reason in reasons] == ["listener.host", "auth.secret"]
    assert "in the clear" in reasons[0]
    tls = {"listener__tls_certificate": "a.pem", "listener__tls_key": "b.pem"}
    assert len(checked(listener__host=host, **tls)) == 1
    assert len(checked(listener__host=host, auth__secret=SECRET)) == 1
    assert checked(listener__host=host, auth__secret=SECRET, **tls) == []
    assert checked(listener__host=host, auth__secret=SECRET, listener__behind_proxy="10.0.0.1") == []


def test_behind_a_proxy_the_secret_must_be_ones_own_wherever_the_node_listens() -> None:
    assert [reason.split(": ")[1] for reason in checked(listener__behind_proxy="127.0.0.1")] == ["auth.secret"]
    assert checked(listener__behind_proxy="127.0.0.1", auth__secret=SECRET) == []


@pytest.mark.parametrize("each", [each for each in ALL if each.kind in (int, float)], ids=lambda each: each.key)
def test_every_number_has_bounds_that_no_reckoning_overflows(each: settings.Setting) -> None:
    """Days are reckoned in ms, and times stay below 2**53 with today's 2**41 on top."""
    assert each.at_least is not None
    assert each.at_most is not None
    ms = {"seconds": 1000, "minutes": 60_000, "days": 86_400_000}.get(each.unit, 1)
    assert each.at_most * ms < 2**52


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "8.8.8.8", "", "metrics.example.org"])
def test_the_internal_port_is_refused_where_anybody_may_reach_it(host: str) -> None:
    assert [reason.split(": ")[1] for reason in checked(internal__host=host)] == ["internal.host"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.1.2.3", "192.168.0.2", "fd00::1"])
def test_the_internal_port_may_stand_on_a_private_address(host: str) -> None:
    assert checked(internal__host=host) == []


def test_connections_stay_below_the_limit_of_open_files() -> None:
    limits = config.Limits()
    assert config.connection_limit(limits, 20_000) == 20_000 - config.RESERVED_FILES
    assert config.connection_limit(dataclasses.replace(limits, max_connections=500), 20_000) == 500


@pytest.mark.parametrize(("wanted", "files"), [(20_000, 20_000), (0, 256), (0, 64)])
def test_more_connections_than_files_are_refused_by_key(wanted: int, files: int) -> None:
    limits = dataclasses.replace(config.Limits(), max_connections=wanted)
    with pytest.raises(settings.ConfigError, match=r"^limits\.max_connections: "):
        config.connection_limit(limits, files)
