"""Tokens, one-time codes, invite links, and digests keyed by the node's secret.

Tokens and codes are random; the store knows only their SHA-256, which is enough for 120 bits and more that nobody chose.
They are found by that digest, so no secret is compared byte by byte. Everything else is made with keys derived from
`auth.secret` by HKDF (RFC 5869), one per purpose, so that what one key signs means nothing to another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf import hkdf

from protocol import ids

#: Bytes.
MIN_SECRET = 32
TOKEN = 32
#: A reset code: 24 characters of Base32, which a person can read out.
RESET_CODE = 15
#: An invitation: this many random bytes and as many of MAC; 32 characters.
INVITATION_HALF = 10
#: The invite of a group's link: its id, then the MAC.
INVITE_ID = 7
INVITE_MAC = 16
#: Characters between dashes when a code is shown.
GROUP = 4


def fingerprint(token: bytes) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(token).digest()


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return hkdf.HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"kith " + purpose).derive(secret)


class Digest:
    """A keyed 63-bit digest: `digest(raw) -> int`, 0 <= int < 2**63, under a microsecond for a message.

    Keyed, so that no client can make two commands whose digests agree."""

    __slots__ = ("digest",)

    def __init__(self, secret: bytes, purpose: bytes = b"commands") -> None:
        keyed = hashlib.blake2b(digest_size=8, key=_derive(secret, purpose))
        copy, number = keyed.copy, int.from_bytes

        def digest(raw: bytes) -> int:
            state = copy()  # half the cost of taking the key in anew
            state.update(raw)
            return number(state.digest(), "big") >> 1

        self.digest: Callable[[bytes], int] = digest


class Tokens:
    """All that is made from the node's secret for accounts. `random_bytes(n)` as `secrets.token_bytes`."""

    __slots__ = ("_device", "_invitation", "_invite", "_random_bytes", "_registration", "_repeat")

    def __init__(self, secret: bytes, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        if len(secret) < MIN_SECRET:
            raise ValueError(f"the secret has at least {MIN_SECRET} bytes")
        self._random_bytes = random_bytes
        self._device = _derive(secret, b"devices")
        self._registration = _derive(secret, b"registrations")
        self._repeat = _derive(secret, b"repeated resets")
        self._invitation = _derive(secret, b"invitations")
        self._invite = _derive(secret, b"invites")

    # --- tokens and devices -------------------------------------------------------------------------------------------

    def token(self) -> bytes:
        """A new device token."""
        return self._random_bytes(TOKEN)

    def device(self, user: int, request: bytes) -> int:
        """The id of the device that a log-in makes: the same for a repeat, so that it finds what the first one made. Keyed,
        so that nobody can aim at another device's id."""
        digest = _mac(self._device, user.to_bytes(8, "big") + request, 8)
        return int.from_bytes(digest, "big") % ids.MAX_ID + 1

    def registration(self, key: str, request: bytes) -> bytes:
        """What is stored of a registration, to know its repeat by."""
        return _mac(self._registration, request + key.encode(), 32)

    def repeat(self, code: bytes, request: bytes) -> bytes:
        """What is stored of a request that used the one-time code of this digest, to know its repeat by."""
        return _mac(self._repeat, code + request, 32)

    # --- codes that people type -------------------------------------------------------------------------------------

    def reset_code(self) -> str:
        """A new one-time code for a new password."""
        return _spell(self._random_bytes(RESET_CODE))

    def invitation(self) -> str:
        """A new invitation. It proves by itself that this server issued it (`is_invitation`); how often it may be used is the
        store's to say."""
        nonce = self._random_bytes(INVITATION_HALF)
        return _spell(nonce + _mac(self._invitation, nonce, INVITATION_HALF))

    def is_invitation(self, text: str) -> bool:
        """Whether this server issued it, used up or not: who has none learns nothing about names."""
        raw = _read(text) or b""
        nonce, mac = raw[:INVITATION_HALF], raw[INVITATION_HALF:]
        return hmac.compare_digest(mac, _mac(self._invitation, nonce, INVITATION_HALF))

    # --- invite links of groups ---------------------------------------------------------------------------------------

    def invite_code(self, stream: bytes, invite: int) -> bytes:
        """The code of a group's invite link: the invite's id and a MAC of group and id."""
        raw = invite.to_bytes(INVITE_ID, "big")
        return raw + _mac(self._invite, stream + raw, INVITE_MAC)

    def check_invite(self, stream: bytes, code: bytes) -> int | None:
        """The invite's id if this server made the code for this group, else None. Whether it still holds is the group's to
        say."""
        raw, mac = code[:INVITE_ID], code[INVITE_ID:]
        if not hmac.compare_digest(mac, _mac(self._invite, stream + raw, INVITE_MAC)):
            return None
        return int.from_bytes(raw, "big")


def code_digest(purpose: str, user: int, text: str) -> bytes:
    """What is stored of a code. That of a reset is bound to its user, so a code typed with a wrong name is not used up."""
    raw = _read(text)
    # What cannot be read still gets a digest, which no code has, so that it takes the same way through the store.
    body = b"\0" + raw if raw is not None else b"\1" + text.encode(errors="surrogatepass")
    return hashlib.sha256(purpose.encode() + b"\0" + user.to_bytes(8, "big") + body).digest()


def _mac(key: bytes, data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size, key=key).digest()


def _spell(raw: bytes) -> str:
    """Base32 (RFC 4648) in groups: no 0, 1, 8, 9 to mistake for letters."""
    text = base64.b32encode(raw).decode()
    return "-".join(text[at : at + GROUP] for at in range(0, len(text), GROUP))


def _read(text: str) -> bytes | None:
    """The bytes of a code as a person types it: small letters, other groups or none. None: no code."""
    try:
        return base64.b32decode("".join(text.split()).replace("-", "").upper())
    except (binascii.Error, ValueError):
        return None
