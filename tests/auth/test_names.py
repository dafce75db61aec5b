"""Names and passwords, prepared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth import names
from protocol import codes
from tests.auth import world

#: Letters of several scripts beside anything else, so that some examples are names.
TEXTS = st.text(st.one_of(st.sampled_from("aAzZß0_.-éÉσΣςжЖאباक"), st.characters()), max_size=70)


@given(TEXTS)
def test_a_name_that_is_accepted_prepares_to_itself(raw: str) -> None:
    try:
        name = names.prepare(raw)
    except codes.Refused:
        assert names.key(raw) is None
        return
    assert names.prepare(name.shown) == name
    assert names.prepare(name.key).key == name.key == name.key.casefold()
    assert len(name.shown.encode()) <= names.MAX_NAME
    assert len(name.key.encode()) <= names.MAX_NAME


@given(TEXTS)
def test_however_the_case_is_typed_the_account_is_the_same(raw: str) -> None:
    key = names.key(raw)
    if key is not None:
        assert names.key(raw.lower()) in (key, None)
        assert names.key(raw.upper()) in (key, None)
        assert names.key(raw.swapcase()) in (key, None)


@given(TEXTS, st.integers(min_value=1, max_value=70))
def test_the_beginning_of_a_shown_name_finds_its_key(raw: str, length: int) -> None:
    key = names.key(raw)
    if key is not None and raw.isascii():  # elsewhere a cut may fall into a composed character
        assert key.startswith(names.search_key(raw[:length]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Asha", "aSHA"),
        ("Straße", "STRASSE"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("ａｓｈａ", "asha"),  # full width
        ("Ame\u0301lie", "Amélie"),  # decomposed
    ],
)
def test_forms_of_one_name_are_one_account(one: str, other: str) -> None:
    assert names.key(one) == names.key(other) is not None


def test_a_name_is_shown_as_its_owner_typed_it() -> None:
    assert names.prepare("Ame\u0301lie") == names.Name("Amélie", "amélie")


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "two words",
        "tab\there",
        "nul\0",
        "zero\u200bwidth",
        "joined\u200dup",
        "\u202eevil",
        "ﬁsh",  # a ligature
        "1אב",  # breaks the Bidi Rule
        "pаul",  # a Cyrillic letter between Latin ones
        "Αlpha",  # a Greek capital before Latin letters
        "\ud800",
        "a" * 65,
        "é" * 33,  # 66 bytes
        "ß" * 31 + "ﬀ",
    ],
)
def test_what_could_be_mistaken_or_not_typed_is_no_name(raw: str) -> None:
    with world.refused(codes.BAD_NAME):
        names.prepare(raw)
    assert names.key(raw) is None


@pytest.mark.parametrize("raw", ["a", "asha.rao_2@home", "паша", "ελένη", "אבג1", "美咲", "मीरा", "a" * 64])
def test_names_of_one_script_are_accepted(raw: str) -> None:
    assert names.prepare(raw).shown == raw


def test_a_password_is_the_same_from_every_keyboard() -> None:
    assert names.new_password("cafe\u0301\u00a0noir") == "café noir"
    assert names.new_password("Case Stays") != names.new_password("case stays")


@given(st.text(max_size=300))
def test_a_password_that_can_be_set_can_be_checked(raw: str) -> None:
    try:
        prepared = names.new_password(raw)
    except codes.Refused:
        assert names.password(raw) is None or len(names.password(raw) or "") < names.MIN_PASSWORD
        return
    assert names.password(raw) == prepared == names.password(prepared)
    assert len(prepared) >= names.MIN_PASSWORD
    assert len(prepared.encode()) <= names.MAX_PASSWORD


@pytest.mark.parametrize("raw", ["", "seven77", "long enough\n", "\x7f" * 9, "é" * 129, "a" * 257, "surrogate\ud800"])
def test_a_weak_or_untypable_password_is_refused_without_being_quoted(raw: str) -> None:
    with world.refused(codes.WEAK_PASSWORD) as refusal:
        names.new_password(raw)
    assert not raw or all(raw not in text for text in world.chain(refusal.value))


def test_a_short_password_of_earlier_rules_can_still_be_checked() -> None:
    assert names.password("seven77") == "seven77"
