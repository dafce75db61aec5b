"""User names and passwords, prepared: the same person, typing on another keyboard, arrives at the same string.

Names follow the PRECIS profile UsernameCaseMapped (RFC 8265 section 3.3), passwords OpaqueString (section 4.2). A name has
two forms. `shown` is what its owner typed, width-mapped and in NFC; `key` is that case-folded, and is what is unique: Unicode
case folding joins more than lower case does ("Straße" and "STRASSE", both sigmas), so fewer names look alike.

PRECIS itself refuses spaces, controls, invisible and bidirectional formatting characters, compatibility forms ("ﬁ"), and
right-to-left names that break the Bidi Rule (RFC 5893). It leaves look-alikes to the application (RFC 8264 section 12.5):
here a name may not mix letters of scripts that share letter shapes, so that "pаul" with a Cyrillic "а" is refused. A name
entirely of one other script is somebody's honest name and passes.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import precis_i18n

from protocol import codes

#: Bytes of UTF-8, for `shown` and for `key`; a key can be longer than what was typed. As wide as the field of the wire.
MAX_NAME = 64
#: Characters after preparation (NIST SP 800-63B asks for 8), counted when a password is set, never when one is checked.
MIN_PASSWORD = 8
#: Bytes of UTF-8 after preparation: room for any pass phrase, and a bound for what is hashed.
MAX_PASSWORD = 256

#: Scripts with letters that look like those of another of them; the first word of a letter's Unicode name.
LOOKALIKE_SCRIPTS = frozenset({"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "COPTIC"})

_SHOWN = precis_i18n.get_profile("UsernameCasePreserved")
_KEY = precis_i18n.get_profile("UsernameCaseMapped:CaseFold")
_PASSWORD = precis_i18n.get_profile("OpaqueString")


@dataclass(slots=True, frozen=True)
class Name:
    """A user name that may be taken: as shown, and as compared."""

    shown: str
    key: str


def prepare(raw: str) -> Name:
    """The two forms of a name, or Refused(BAD_NAME). Preparing either form again gives the same key."""
    if len(raw) > MAX_NAME:  # before any work in proportion to the length; code points are at most as many as bytes
        raise codes.Refused(codes.BAD_NAME, f"A user name has at most {MAX_NAME} bytes of UTF-8")
    shown = _enforce(_SHOWN, raw)
    folded = _enforce(_KEY, shown) if shown is not None else None
    if shown is None or folded is None:
        raise codes.Refused(codes.BAD_NAME, "A user name consists of letters, digits and ASCII punctuation, without spaces")
    if max(len(shown.encode()), len(folded.encode())) > MAX_NAME:
        raise codes.Refused(codes.BAD_NAME, f"A user name has at most {MAX_NAME} bytes of UTF-8")
    if len(_scripts(folded)) > 1:
        raise codes.Refused(codes.BAD_NAME, "A user name does not mix letters of scripts that look alike")
    return Name(shown, folded)


def key(raw: str) -> str | None:
    """The key that a typed name stands for; None when nobody can have such a name."""
    try:
        return prepare(raw).key
    except codes.Refused:
        return None


def search_key(raw: str) -> str:
    """The beginning of keys that a typed beginning of a name stands for. Matches nothing when it can be no beginning."""
    return str(_KEY.normalization_rule(_KEY.case_mapping_rule(_KEY.width_mapping_rule(raw))))


def new_password(raw: str) -> str:
    """A password to be set, prepared; Refused(WEAK_PASSWORD) if it is too short, too long, or has characters that cannot be
    typed again reliably. The refusal does not quote it."""
    prepared = password(raw)
    if prepared is None:
        raise codes.Refused(
            codes.WEAK_PASSWORD, f"A password has at most {MAX_PASSWORD} bytes of UTF-8 and no control characters"
        )
    if len(prepared) < MIN_PASSWORD:
        raise codes.Refused(codes.WEAK_PASSWORD, f"A password has at least {MIN_PASSWORD} characters")
    return prepared


def password(raw: str) -> str | None:
    """A password to be checked, prepared; None when nobody can have such a password."""
    if len(raw) > MAX_PASSWORD:
        return None
    prepared = _enforce(_PASSWORD, raw)
    return prepared if prepared is not None and len(prepared.encode()) <= MAX_PASSWORD else None


def _enforce(profile: precis_i18n.profile.Profile, raw: str) -> str | None:
    """None for what the profile refuses. Its exception holds the whole string, so it ends here and is nobody's context."""
    try:
        return str(profile.enforce(raw))
    except UnicodeError:
        return None


def _scripts(text: str) -> set[str]:
    """Which of the look-alike scripts the letters of a text belong to."""
    words = {unicodedata.name(each, "").partition(" ")[0] for each in text if each.isalpha()}
    return words & LOOKALIKE_SCRIPTS
