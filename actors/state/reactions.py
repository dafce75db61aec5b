"""What a reaction may be, and how many of them a message bears: one item of history has to fit into one frame. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from protocol import codec, codes

#: Bytes of one emoji: the longest sequence of Unicode 16 (two people of two skins who kiss) has 35.
MOST_BYTES = 40
#: A user id as the fold holds it at most, and the length of the emoji.
_BESIDE = 9 + 2
#: What an item has besides its reactions, at most: two bodies (that of the message, and that of its last edit), 64 seqs of
#: edits, and the numbers of event, fold, frame, and of the export around it (below 2 KiB together).
_ITEM_BYTES = 2 * codec.MAX_BODY + 2048
#: Bytes of all reactions to one message. A thousand people with an ordinary emoji need 15 KiB; 600 with the longest one.
MOST_BYTES_OF_ALL = codec.MAX_MESSAGE - _ITEM_BYTES

#: Joins emojis to one; U+E0020..U+E007F spell the flags of regions. Other invisible characters have no business here.
_JOINER = "\u200d"
_TAGS = range(0xE0020, 0xE0080)
#: Control, surrogate and private characters, formats, and all that separates.
_REFUSED = frozenset({"Cc", "Cs", "Co", "Cf", "Zs", "Zl", "Zp"})


def check_emoji(emoji: str) -> None:
    """codes.Refused unless it can be one emoji ("" is none)."""
    if len(emoji.encode()) > MOST_BYTES:
        raise codes.Refused(codes.TOO_LONG, f"an emoji has at most {MOST_BYTES} bytes")
    for character in emoji:
        joins = character == _JOINER or ord(character) in _TAGS
        if not joins and unicodedata.category(character) in _REFUSED:
            raise codes.Refused(codes.UNSUPPORTED_BODY, "an emoji contains no spaces and no control characters")


def check_room(reactions: Mapping[int, str]) -> None:
    """codes.Refused unless a message can bear all of them."""
    if sum(_BESIDE + len(emoji.encode()) for emoji in reactions.values()) > MOST_BYTES_OF_ALL:
        raise codes.Refused(codes.TOO_MANY, "the message has as many reactions as it can bear")
