"""Every error and close code: number, symbol, whether it passes, whose fault it is.

A client needs the number's range alone to know what to do. Errors answer one command and leave the connection open:

    100-199  the frame is wrong            do not send it again
    200-299  the person is not let in      ask for other credentials
    300-399  the command is refused        do not send it again
    400-499  not now (temporary)           send the same bytes again after `retry_after_ms`

Close codes (RFC 6455 section 7.4.2: 4000-4999 are private use):

    1012, 1013, 4000-4499   come back, with the same token and a jittered back-off
    4500-4999               final: do not come back without the person doing something
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Fault(IntEnum):
    """Whose fault a refusal is."""

    CLIENT = 1
    PERSON = 2
    SERVER = 3


@dataclass(frozen=True, slots=True)
class Error:
    """One kind of refusal. `text` is for people; programs look at number and symbol."""

    number: int
    symbol: str
    text: str
    fault: Fault = Fault.CLIENT

    @property
    def temporary(self) -> bool:
        return 400 <= self.number < 500


MALFORMED = Error(100, "malformed", "The frame cannot be read")
UNKNOWN_FRAME = Error(101, "unknown_frame", "This server does not know this frame number")
NOT_READY = Error(102, "not_ready", "The first frame must be hello, and it comes once")
UNSUPPORTED_VERSION = Error(103, "unsupported_version", "No version of the protocol in common")
COUNTER_REUSED = Error(104, "counter_reused", "This counter was used for another command")
UNSUPPORTED_BODY = Error(105, "unsupported_body", "This kind of body is not accepted")
COUNTER_MISSING = Error(106, "counter_missing", "The counter of a state-changing command is at least 1")

BAD_CREDENTIALS = Error(200, "bad_credentials", "The credentials are wrong or no longer valid", Fault.PERSON)
NAME_TAKEN = Error(201, "name_taken", "The user name is taken", Fault.PERSON)
BAD_NAME = Error(202, "bad_name", "The user name is not acceptable", Fault.PERSON)
WEAK_PASSWORD = Error(203, "weak_password", "The password is not acceptable", Fault.PERSON)
REGISTRATION_CLOSED = Error(204, "registration_closed", "Registration is not open", Fault.PERSON)
BAD_INVITATION = Error(205, "bad_invitation", "The invitation or code is not valid", Fault.PERSON)

NOT_ALLOWED = Error(300, "not_allowed", "Not allowed, or it does not exist", Fault.PERSON)
EMPTY = Error(301, "empty", "Empty where something is needed")
TOO_LONG = Error(302, "too_long", "Longer than the limit")
TOO_MANY = Error(303, "too_many", "More than the limit")
ALREADY = Error(304, "already", "A command this old was answered before; it is not carried out again")
TOO_LATE = Error(305, "too_late", "The time in which this was possible is over", Fault.PERSON)
GONE = Error(306, "gone", "The message is deleted or expired", Fault.PERSON)
BAD_MENTION = Error(307, "bad_mention", "A mention does not fit the text or names no member")
NOTHING_CHANGED = Error(308, "nothing_changed", "The change would change nothing", Fault.PERSON)

RATE_LIMITED = Error(400, "rate_limited", "Too many commands; slow down")
BUSY = Error(401, "busy", "The server is busy", Fault.SERVER)
UNKNOWN = Error(402, "unknown", "The outcome is unknown; send the same bytes again", Fault.SERVER)
UNAVAILABLE = Error(403, "unavailable", "The server cannot store or read at the moment", Fault.SERVER)
RESTARTING = Error(404, "restarting", "The server is stopping; come back", Fault.SERVER)

ERRORS: tuple[Error, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Error))
BY_NUMBER = {error.number: error for error in ERRORS}
BY_SYMBOL = {error.symbol: error for error in ERRORS}


@dataclass(frozen=True, slots=True)
class Close:
    """One reason to close a connection."""

    code: int
    symbol: str
    text: str

    @property
    def reconnect(self) -> bool:
        return self.code in (1012, 1013) or 4000 <= self.code < 4500


NORMAL = Close(1000, "normal", "Goodbye")
RESTART = Close(1012, "restart", "The server is restarting; come back when the hint says")
FULL = Close(1013, "full", "The server is full; try again later")
SLOW = Close(4000, "slow", "The connection took no byte for 30 s")
HEARTBEAT_LOST = Close(4001, "heartbeat_lost", "No answer to heartbeats")
HELLO_TIMEOUT = Close(4002, "hello_timeout", "No hello in time")
SESSION_LOST = Close(4003, "session_lost", "The session failed; come back to a new one")
FLOOD = Close(4004, "flood", "Far too many commands in spite of being told to slow down")
BAD_FRAMES = Close(4500, "bad_frames", "Three frames in a row could not be read")
TOO_BIG = Close(4501, "too_big", "A frame over the size or nesting limit")
NOT_BINARY = Close(4502, "not_binary", "Text where binary is asked for")
REFUSED = Close(4503, "refused", "The credentials were refused")
REVOKED = Close(4504, "revoked", "This device was revoked or logged out")
NO_VERSION = Close(4505, "no_version", "No version of the protocol in common")
REPLACED = Close(4506, "replaced", "The same device connected again elsewhere")
ACCOUNT_DELETED = Close(4507, "account_deleted", "The account was deleted")
PROTOCOL_ORDER = Close(4508, "protocol_order", "The first frame was not hello, or hello came twice")

CLOSES: tuple[Close, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Close))
CLOSE_BY_CODE = {close.code: close for close in CLOSES}


class Refused(Exception):
    """A command (or a hello) is refused with one of the codes above; the text may name the field or the limit."""

    def __init__(self, error: Error, text: str = "", retry_after_ms: int = 0) -> None:
        super().__init__(error.symbol, text)
        self.error = error
        self.text = text or error.text
        self.retry_after_ms = retry_after_ms
