"""Limits that the policies hold people to. One frozen object, made from the configuration by the composition root."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Rules:
    """Times in ms, lengths in bytes of UTF-8 unless said otherwise."""

    #: How long after sending one's message can be edited. As long as people remember what they read.
    edit_window: int = 15 * 60 * 1000
    #: Members of a group.
    group_members: int = 1024
    #: Messages that a stranger may send before the request is accepted.
    request_messages: int = 3
    #: Edits of one message; each is an event, and its seq is kept with the message so that it can be erased.
    edits: int = 64
    #: Invite links of a group that exist at once, and users waiting to be let in.
    invites: int = 64
    join_requests: int = 256
    #: Users banned from one group.
    bans: int = 1024
    #: Contacts and blocked users of one account.
    contacts: int = 5000
    blocked: int = 1000
    #: Conversations of which one account keeps settings of its own: far more than anybody scrolls through.
    settings: int = 10_000
    #: Bytes that these settings take together: 256 of the longest drafts, or all 10,000 conversations pinned, with a line of
    #: draft in each. An owner holds them in memory while it is awake.
    settings_bytes: int = 4 * 1024 * 1024
    #: Starred and pinned messages, and messages deleted for oneself, of one conversation.
    kept: int = 1000
    hidden: int = 1000
    #: Age (ms) at which a message is gone even where no timer is set, or a longer one; 0: never.
    message_age: int = 0
    #: How long a stream remembers the counters of a device that is silent in it. Longer than a device may be silent
    #: everywhere before it is forgotten: until then it may come back and repeat a command.
    windows_kept: int = 100 * 24 * 60 * 60 * 1000
