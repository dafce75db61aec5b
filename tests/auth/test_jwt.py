"""JSON Web Tokens of configured issuers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws

from auth import jwt
from protocol import codes
from tests.auth import world

NOW = 1_800_000_000  # s
PRIVATE = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PEM = PRIVATE.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
ED = jwt.Issuer("https://bank.example", "kith", "EdDSA", PEM)
ISSUERS = jwt.Issuers([world.ISSUER, ED])


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(header: object, claims: object) -> str:
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"


def claims_of(issuer: jwt.Issuer, **more: Any) -> dict[str, Any]:
    return {"iss": issuer.issuer, "aud": issuer.audience, "sub": "17", "exp": NOW + 60, **more}


def hs256(claims: object, key: bytes = world.HS_SECRET.encode(), **header: Any) -> str:
    """Signed by hand, so that the library under test is not its own witness."""
    head = unsigned({"alg": "HS256", **header}, claims)
    return f"{head}.{b64(hmac.digest(key, head.encode(), hashlib.sha256))}"


def eddsa(claims: object, **header: Any) -> str:
    head = unsigned({"alg": "EdDSA", **header}, claims)
    return f"{head}.{b64(PRIVATE.sign(head.encode()))}"


def verify(token: str, now: float = NOW, issuers: jwt.Issuers = ISSUERS) -> jwt.Subject:
    return issuers.verify(token, int(now * 1000))


def bad(token: str, now: float = NOW, issuers: jwt.Issuers = ISSUERS) -> None:
    with world.refused(codes.BAD_CREDENTIALS) as refusal:
        verify(token, now, issuers)
    assert refusal.value.text == codes.BAD_CREDENTIALS.text


def test_a_token_of_either_algorithm_names_issuer_and_subject() -> None:
    assert verify(hs256(claims_of(world.ISSUER))) == jwt.Subject(world.ISSUER.issuer, "17", "")
    assert verify(eddsa(claims_of(ED, preferred_username="ben"))) == jwt.Subject(ED.issuer, "17", "ben")


def test_the_claim_that_proposes_a_name_is_configured_and_may_be_anything() -> None:
    issuers = jwt.Issuers([jwt.Issuer("i", "kith", "HS256", world.HS_SECRET, name_claim="nick")])
    claims = {"iss": "i", "aud": "kith", "sub": "1", "exp": NOW + 60}
    assert verify(hs256({**claims, "nick": "asha"}), issuers=issuers).name == "asha"
    assert verify(hs256({**claims, "nick": {"not": "text"}}), issuers=issuers).name == ""


def test_an_hs256_token_signed_with_the_text_of_the_public_key_is_refused() -> None:
    for text in (PEM, PEM.strip(), PRIVATE.public_key().public_bytes_raw().hex()):
        bad(hs256(claims_of(ED), text.encode()))
    bad(hs256(claims_of(ED), PRIVATE.public_key().public_bytes_raw()))


def test_the_key_of_one_issuer_signs_nothing_for_another() -> None:
    bad(hs256(claims_of(ED)))
    bad(eddsa(claims_of(world.ISSUER)))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "hs256", "HS512", "Ed25519", None, 5, ["HS256"]])
def test_no_other_algorithm_is_ever_accepted(algorithm: object) -> None:
    head = unsigned({"alg": algorithm}, claims_of(world.ISSUER))
    bad(f"{head}.")
    bad(f"{head}.{b64(hmac.digest(world.HS_SECRET.encode(), head.encode(), hashlib.sha256))}")
    bad(f"{head}.{b64(hmac.digest(world.HS_SECRET.encode(), head.encode(), hashlib.sha512))}")


def test_a_header_without_an_algorithm_is_refused() -> None:
    headers: list[object] = [{}, [], ["alg"], "alg", 5, None]
    for header in headers:
        head = unsigned(header, claims_of(world.ISSUER))
        bad(f"{head}.{b64(hmac.digest(world.HS_SECRET.encode(), head.encode(), hashlib.sha256))}")


@given(st.data())
def test_a_token_of_which_one_character_is_changed_is_refused(data: st.DataObject) -> None:
    token = data.draw(st.sampled_from([hs256(claims_of(world.ISSUER)), eddsa(claims_of(ED))]))
    # The last character of a part may carry bits that decode to nothing; those before it carry six each.
    places = [at for at in range(len(token)) if token[at] != "." and token[at + 1 : at + 2] not in ("", ".")]
    at = data.draw(st.sampled_from(places))
    other = data.draw(st.sampled_from("ABCXYZabcxyz0189-_").filter(lambda character: character != token[at]))
    bad(token[:at] + other + token[at + 1 :])


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp"])
def test_a_required_claim_that_is_missing_or_empty_is_refused(claim: str) -> None:
    claims = claims_of(world.ISSUER)
    bad(hs256({**claims, claim: None}))
    bad(hs256({**claims, claim: ""}))
    del claims[claim]
    bad(hs256(claims))


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "another"},
        {"aud": ["another", "kit"]},
        {"aud": [["kith"]]},
        {"iss": "https://shop.example/"},
        {"sub": 17},
        {"sub": "x" * 256},
        {"exp": "never"},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"iat": NOW + 3600},
    ],
)
def test_a_claim_with_a_wrong_value_is_refused(wrong: dict[str, Any]) -> None:
    bad(hs256(claims_of(world.ISSUER, **wrong)))


def test_one_audience_of_several_is_enough() -> None:
    assert verify(hs256(claims_of(world.ISSUER, aud=["another", "kith"]))).subject == "17"


def test_a_token_holds_until_its_end_plus_the_leeway_and_not_a_second_longer() -> None:
    token = hs256(claims_of(world.ISSUER, exp=NOW))
    verify(token, NOW + jwt.LEEWAY - 1)
    verify(token, NOW + jwt.LEEWAY - 0.001)
    bad(token, NOW + jwt.LEEWAY)


def test_a_token_holds_from_its_beginning_less_the_leeway() -> None:
    token = hs256(claims_of(world.ISSUER, nbf=NOW, exp=NOW + 600))
    bad(token, NOW - jwt.LEEWAY - 1)
    verify(token, NOW - jwt.LEEWAY)


def test_unknown_headers_are_ignored_unless_they_are_critical() -> None:
    verify(hs256(claims_of(world.ISSUER), kid="2026", typ="JWT", extra=1))
    bad(hs256(claims_of(world.ISSUER), extra=1, crit=["extra"]))


def test_a_payload_that_is_left_out_of_the_signature_is_refused() -> None:
    claims = claims_of(world.ISSUER)
    header = b64(json.dumps({"alg": "HS256", "b64": False, "crit": ["b64"]}).encode())
    body = json.dumps(claims)
    mac = b64(hmac.digest(world.HS_SECRET.encode(), f"{header}.".encode(), hashlib.sha256))
    bad(f"{header}.{b64(body.encode())}.{mac}")


def test_an_oversized_token_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    token = hs256(claims_of(world.ISSUER, pad="x" * jwt.MAX_TOKEN))
    monkeypatch.setattr(jws, "extract_compact", lambda *_: pytest.fail("it was read"))
    bad(token)


@pytest.mark.parametrize("claims", [[], "iss", 5, None, {"iss": ["https://shop.example"]}, {"iss": {}}])
def test_claims_that_are_no_object_or_name_no_issuer_are_refused(claims: object) -> None:
    bad(hs256(claims))


def test_a_nesting_bomb_is_an_answer_and_not_a_crash() -> None:
    head, bomb, number = b64(b'{"alg":"HS256"}'), b64(b"[" * 5000), b64(b'{"iss":' + b"9" * 5000 + b"}")
    bad(f"{head}.{bomb}.AAAA")
    bad(f"{bomb}.{b64(b'{}')}.AAAA")
    bad(f"{head}.{number}.AAAA")


@given(st.text(alphabet=st.sampled_from("eyJ.AB-_=\0é "), max_size=60))
def test_what_is_no_token_is_refused(text: str) -> None:
    bad(text)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), st.lists)


@given(st.dictionaries(st.sampled_from(["alg", "crit", "b64", "kid", "typ", "jwk", "x5c"]), JSON), JSON)
def test_no_header_and_no_claims_break_the_reader(header: dict[str, Any], claims: Any) -> None:
    bad(unsigned(header, claims) + ".AAAA")
    bad(hs256(claims))
    bad(hs256(claims_of(world.ISSUER, aud=["another"], sub=claims), **header))


def test_a_key_that_is_being_replaced_stands_twice() -> None:
    old = jwt.Issuer("i", "kith", "HS256", "the old secret of at least 32 bytes")
    new = jwt.Issuer("i", "kith", "EdDSA", PEM)
    issuers = jwt.Issuers([old, new])
    claims = {"iss": "i", "aud": "kith", "sub": "1", "exp": NOW + 60}
    assert verify(hs256(claims, old.key.encode()), issuers=issuers) == verify(eddsa(claims), issuers=issuers)
    bad(hs256(claims, PEM.encode()), issuers=issuers)


def test_a_public_key_may_be_a_jwk() -> None:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(PRIVATE.public_key().public_bytes_raw())}
    issuers = jwt.Issuers([jwt.Issuer(ED.issuer, ED.audience, "EdDSA", json.dumps(jwk))])
    assert verify(eddsa(claims_of(ED)), issuers=issuers).subject == "17"


PRIVATE_PEM = PRIVATE.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("HS256", "31 bytes are one too few, sorry"),
        ("HS256", PEM),
        ("HS256", PRIVATE_PEM),
        ("EdDSA", world.HS_SECRET),
        ("EdDSA", PRIVATE_PEM),
        ("EdDSA", '{"kty": "OKP", "crv": "X25519", "x": "' + b64(bytes(32)) + '"}'),
        ("EdDSA", '{"kty": "oct", "k": "' + b64(bytes(32)) + '"}'),
        ("EdDSA", "{"),
        ("EdDSA", ""),
        ("none", world.HS_SECRET),
        ("RS256", PEM),
    ],
)
def test_a_key_that_does_not_fit_its_algorithm_is_refused_at_the_start_without_being_quoted(algorithm: str, key: str) -> None:
    with pytest.raises(ValueError, match=r"https://shop\.example") as info:
        jwt.Issuers([jwt.Issuer("https://shop.example", "kith", algorithm, key)])
    assert len(key) < 2 or key not in str(info.value)
    assert key not in repr(jwt.Issuer("i", "kith", algorithm, key)) or len(key) < 2


def test_an_issuer_without_audience_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="aud"):
        jwt.Issuers([jwt.Issuer("i", "", "HS256", world.HS_SECRET)])
