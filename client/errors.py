"""What the client raises, besides `protocol.codes.Refused` (a command or a log-in that the server refused)."""

from __future__ import annotations

from protocol import codes


class ClientError(Exception):
    """Everything below; catch it to catch all of them."""


class Closed(ClientError):
    """The client is closed, by `close` or by the server for good. `close` is the server's reason, or None.

    Raised by a command that had no answer yet: whether it was carried out is unknown. With a store it is sent again at
    the next start."""

    def __init__(self, text: str, close: codes.Close | None = None) -> None:
        super().__init__(text)
        self.close = close


class Unreachable(ClientError):
    """No connection came about in the time that `start` was given, or none ever can (a wrong address, no Kith server)."""


class Lost(ClientError):
    """The connection was lost before something was answered that is not sent again: an ephemeral message."""


class ProtocolViolation(ClientError):
    """The server broke the contract: a gap in a stream, a count that does not add up, a frame that cannot be read."""


class DamagedState(ClientError):
    """The file of a store cannot be read; it names the file."""


class Full(ClientError):
    """Too many commands have no answer yet; wait for some of them."""
