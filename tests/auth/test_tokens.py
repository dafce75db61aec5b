"""Tokens, codes, invite links and keyed digests."""

from __future__ import annotations

import hashlib
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth import tokens
from protocol import ids
from tests.auth import world

SEALED = tokens.Tokens(world.SECRET)
OTHER = tokens.Tokens(b"\xa5" * 32)
STREAMS = st.builds(ids.group_stream, st.integers(1, ids.MAX_ID), st.integers(1, ids.MAX_ID))
INVITES = st.integers(1, ids.MAX_ID)


@given(st.binary(max_size=300))
def test_a_digest_is_stable_small_enough_and_keyed(raw: bytes) -> None:
    digest = tokens.Digest(world.SECRET).digest
    assert digest(raw) == digest(raw)
    assert 0 <= digest(raw) < 2**63
    assert digest(raw) != digest(raw + b"\0")
    assert digest(raw) != tokens.Digest(b"\xa5" * 32).digest(raw)
    assert digest(raw) != tokens.Digest(world.SECRET, b"another purpose").digest(raw)


@given(STREAMS, INVITES)
def test_an_invite_code_names_its_invite_to_its_group(stream: bytes, invite: int) -> None:
    code = SEALED.invite_code(stream, invite)
    assert len(code) == tokens.INVITE_ID + tokens.INVITE_MAC
    assert SEALED.check_invite(stream, code) == invite


@given(STREAMS, STREAMS, INVITES)
def test_an_invite_code_means_nothing_to_another_group_or_server(one: bytes, other: bytes, invite: int) -> None:
    code = SEALED.invite_code(one, invite)
    assert OTHER.check_invite(one, code) is None
    if one != other:
        assert SEALED.check_invite(other, code) is None


@given(STREAMS, INVITES, st.data())
def test_an_invite_code_of_which_one_bit_is_changed_is_none(stream: bytes, invite: int, data: st.DataObject) -> None:
    code = bytearray(SEALED.invite_code(stream, invite))
    bit = data.draw(st.integers(0, len(code) * 8 - 1))
    code[bit // 8] ^= 1 << bit % 8
    assert SEALED.check_invite(stream, bytes(code)) is None


@given(STREAMS, st.binary(max_size=64))
def test_what_was_never_issued_is_no_invite_code(stream: bytes, code: bytes) -> None:
    assert SEALED.check_invite(stream, code) is None


def test_the_store_learns_the_fingerprint_of_a_token_alone() -> None:
    token = SEALED.token()
    assert len(token) == tokens.TOKEN
    assert tokens.fingerprint(token) == hashlib.sha256(token).digest()
    assert SEALED.token() != token


@given(st.integers(1, ids.MAX_ID), st.binary(min_size=16, max_size=16))
def test_a_repeated_log_in_finds_the_same_device_and_another_one_does_not(user: int, request_id: bytes) -> None:
    device = SEALED.device(user, request_id)
    assert 1 <= device <= ids.MAX_ID
    assert SEALED.device(user, request_id) == device
    assert SEALED.device(user % ids.MAX_ID + 1, request_id) != device
    assert SEALED.device(user, bytes([request_id[0] ^ 1]) + request_id[1:]) != device
    assert OTHER.device(user, request_id) != device


def test_a_short_secret_is_refused_without_being_quoted() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes") as info:
        tokens.Tokens(b"too short a secret")
    assert "too short a secret" not in str(info.value)


def test_an_invitation_proves_that_this_server_issued_it() -> None:
    text = SEALED.invitation()
    assert len(text) <= 64
    assert SEALED.is_invitation(text)
    assert not OTHER.is_invitation(text)
    assert not SEALED.is_invitation("")
    assert not SEALED.is_invitation(text[:-1] + ("A" if text[-1] != "A" else "B"))


@given(st.text(max_size=64))
def test_a_made_up_invitation_is_none(text: str) -> None:
    assert not SEALED.is_invitation(text)


def test_a_code_may_be_typed_in_small_letters_and_other_groups() -> None:
    text = SEALED.reset_code()
    typed = f"  {text.lower().replace('-', ' ')} "
    assert tokens.code_digest("reset", 5, typed) == tokens.code_digest("reset", 5, text)
    assert SEALED.reset_code() != text


@given(st.text(max_size=64))
def test_a_code_is_bound_to_its_purpose_and_user(text: str) -> None:
    digest = tokens.code_digest("reset", 5, text)
    assert digest != tokens.code_digest("reset", 6, text)
    assert digest != tokens.code_digest("invite", 5, text)


def test_what_is_random_comes_from_the_given_source() -> None:
    drawn: list[int] = []

    def source(count: int) -> bytes:
        drawn.append(count)
        return secrets.token_bytes(count)

    made = tokens.Tokens(world.SECRET, source)
    made.token(), made.reset_code(), made.invitation()
    assert drawn == [32, 15, 10]
