"""Whether a server would read a command: what it would not is refused before it is sent, and before it is stored.

After three frames that it cannot read a server closes for good, after one that is too big at once; and a command that is kept
would do so again at every start.
"""

from __future__ import annotations

from protocol import codec, codes, messages, scan


def within(frame: messages.Frame, data: bytes, most: int, most_body: int) -> None:
    """codes.Refused for a command that is too large: `most` bytes of a frame, `most_body` of a body."""
    if len(data) > most:
        raise codes.Refused(codes.TOO_LONG, f"at most {most} bytes")
    if isinstance(frame, messages.Send | messages.Edit) and len(frame.body) > most_body:
        raise codes.Refused(codes.TOO_LONG, f"body: at most {most_body} bytes")


def readable(data: bytes, most: int = codec.MAX_MESSAGE, most_body: int = codec.MAX_BODY) -> messages.ClientFrame:
    """The command in `data`, as a server reads it. codes.Refused if it would not."""
    try:
        frame = codec.decode_client(data)
    except codec.Problem as problem:
        raise codes.Refused(problem.error, problem.text) from None
    except scan.TooBig:
        raise codes.Refused(codes.TOO_LONG, "nested too deeply") from None
    within(frame, data, most, most_body)
    return frame
