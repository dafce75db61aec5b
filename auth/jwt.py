"""JSON Web Tokens (RFC 7519) of configured issuers, read as RFC 8725 advises.

A key has exactly one algorithm, which its configuration names; what the token's header says can only agree with it. That
closes both classic holes: `none`, and an HS256 token signed with the text of a public key. `iss`, `sub`, `aud` and `exp` must
be there; `nbf` and `iat` are held to when they are. Times are compared with a small leeway for clocks that differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from joserfc import errors, jwk, jws, jwt

from protocol import codes

#: Bytes. The wire's field is as long; anything longer is refused unread.
MAX_TOKEN = 8192
#: Bytes of an HS256 secret (RFC 7518 section 3.2: at least as long as the hash).
MIN_SECRET = 32
#: Characters of a subject (OpenID Connect Core section 2).
MAX_SUBJECT = 255
#: Seconds by which an issuer's clock may differ.
LEEWAY = 30

HS256 = "HS256"
EDDSA = "EdDSA"


@dataclass(slots=True, frozen=True)
class Issuer:
    """Whose tokens are accepted. `key`: for HS256 the shared text, for EdDSA the Ed25519 public key in PEM or as a JWK.

    `name_claim` is the claim that proposes a user name (OpenID Connect's short name by default); it may be missing.
    An issuer that changes its key stands twice for a while."""

    issuer: str
    audience: str
    algorithm: str
    key: str = field(repr=False)
    name_claim: str = "preferred_username"


@dataclass(slots=True, frozen=True)
class Subject:
    """Whom a token speaks of. `name` is the name it proposes, not yet checked, or ""."""

    issuer: str
    subject: str
    name: str


class _OneAlgorithm(jws.JWSRegistry):
    """Knows one algorithm. (The library's own registry warns of "EdDSA" at each use, since RFC 9864 names the curve too; here
    the key fixes the curve.)"""

    max_header_length = MAX_TOKEN

    def __init__(self, algorithm: str) -> None:
        # An unknown header parameter is ignored unless `crit` lists it (RFC 7515 section 4.1.11).
        super().__init__(algorithms=[algorithm], strict_check_header=False)
        self._algorithm = algorithm

    def get_alg(self, name: str) -> Any:
        if name != self._algorithm:
            raise errors.UnsupportedAlgorithmError("another algorithm than that of the key")
        return self.algorithms[name]


class _Key:
    """One issuer's key, with all that a token must agree with."""

    __slots__ = ("_audience", "_key", "_name_claim", "_registry", "issuer")

    def __init__(self, issuer: Issuer) -> None:
        if not issuer.issuer or not issuer.audience:
            raise ValueError("an issuer of tokens needs the values of `iss` and `aud`")
        self.issuer = issuer.issuer
        self._audience = issuer.audience
        self._name_claim = issuer.name_claim
        self._key = _import(issuer)
        self._registry = _OneAlgorithm(issuer.algorithm)

    def signed(self, token: jws.CompactSignature) -> bool:
        try:
            return jws.validate_compact(token, self._key, registry=self._registry)
        except (errors.JoseError, ValueError, TypeError):  # header parameters of wrong types are told in all three ways
            return False

    def read(self, claims: dict[str, Any], now: int, leeway: int) -> Subject | None:
        """The claims as of `now` (seconds), or None if they do not hold."""
        rules = jwt.JWTClaimsRegistry(
            now=now,
            leeway=leeway,
            iss={"essential": True, "value": self.issuer},
            sub={"essential": True},
            aud={"essential": True, "value": self._audience},
            exp={"essential": True},
        )
        try:
            rules.validate(claims)
        except errors.JoseError:
            return None
        subject, name = claims["sub"], claims.get(self._name_claim)
        if len(subject) > MAX_SUBJECT:
            return None
        return Subject(self.issuer, subject, name if isinstance(name, str) else "")


class Issuers:
    """All issuers of one node. ValueError for a key that does not fit its algorithm; it names the issuer, not the key."""

    __slots__ = ("_keys", "_leeway")

    def __init__(self, issuers: Iterable[Issuer], leeway: int = LEEWAY) -> None:
        self._leeway = leeway
        self._keys: dict[str, list[_Key]] = {}
        for issuer in issuers:
            self._keys.setdefault(issuer.issuer, []).append(_Key(issuer))

    def verify(self, text: str, now: int) -> Subject:
        """Whom the token speaks of, as of `now` in ms since the epoch. Refused(BAD_CREDENTIALS) for every token that does not
        hold, without saying why: the reason is the issuer's business."""
        subject = self._verify(text, now)
        if subject is None:
            raise codes.Refused(codes.BAD_CREDENTIALS)
        return subject

    def _verify(self, text: str, now: int) -> Subject | None:
        if len(text) > MAX_TOKEN or not text.isascii():
            return None
        try:
            token = jws.extract_compact(text.encode("ascii"))
            # Not trusted yet: read to learn whose key is to check it, as RFC 8725 section 3.8 wants it.
            claims = json.loads(token.payload)
        except (errors.JoseError, ValueError, TypeError, RecursionError):
            return None
        header: object = token.headers()
        # The library takes ["alg"] for a header that has one. No extension is understood, so each that is critical refuses
        # the token (RFC 7515 section 4.1.11), the payload that is not encoded (RFC 7797) among them.
        if not isinstance(header, dict) or "crit" in header:
            return None
        if not isinstance(claims, dict) or not isinstance(claims.get("iss"), str):
            return None
        for key in self._keys.get(claims["iss"], ()):
            if key.signed(token):
                return key.read(claims, now // 1000, self._leeway)
        return None


def _import(issuer: Issuer) -> jwk.OctKey | jwk.OKPKey:
    where = f"issuer {issuer.issuer!r}"
    if issuer.algorithm == HS256:
        secret = issuer.key.encode()
        if len(secret) < MIN_SECRET:
            raise ValueError(f"{where}: an HS256 secret has at least {MIN_SECRET} bytes")
        if b"-----BEGIN" in secret:
            raise ValueError(f"{where}: a PEM key is no HS256 secret")
        return jwk.OctKey.import_key(secret)
    if issuer.algorithm == EDDSA:
        key = _public_key(issuer.key)
        if key is None:
            raise ValueError(f"{where}: not an Ed25519 public key in PEM or as a JWK")
        if key.is_private:
            raise ValueError(f"{where}: the private key stays with the issuer; give its public key")
        return key
    raise ValueError(f"{where}: {issuer.algorithm!r} is neither {HS256} nor {EDDSA}")


def _public_key(text: str) -> jwk.OKPKey | None:
    try:
        key = jwk.OKPKey.import_key(json.loads(text) if text.lstrip().startswith("{") else text)
    except (errors.JoseError, ValueError, TypeError, KeyError):
        return None
    return key if key.curve_name == "Ed25519" else None
