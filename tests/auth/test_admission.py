"""The door: five credentials, and what they do not tell."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any
from unittest.mock import AsyncMock

import pytest
import structlog

from auth import accounts, passwords, tokens
from protocol import codes, messages
from storage import errors
from storage.sqlite import store
from tests.auth import world

# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_whoever_registers_comes_back_with_the_token(door: world.Door) -> None:
    first = await door.register("Asha")
    assert first.name == "Asha"
    assert door.announced == [(first.user, first.device, "phone")]
    again = await door.token(first.token)
    assert (again.user, again.device, again.name) == (first.user, first.device, "Asha")
    assert again.token == b""
    assert len(door.announced) == 1


async def test_a_token_costs_two_reads_and_no_write(door: world.Door) -> None:
    first = await door.register()
    door.store.calls.clear()
    await door.token(first.token)
    assert door.store.calls == ["find_token", "user"]


async def test_a_wrong_token_is_refused_and_so_is_that_of_a_revoked_device(door: world.Door) -> None:
    first = await door.register()
    with world.refused(codes.BAD_CREDENTIALS):
        await door.token(first.token[:-1] + bytes([first.token[-1] ^ 1]))
    await door.store.revoke_device(first.user, first.device)
    with world.refused(codes.BAD_CREDENTIALS):
        await door.token(first.token)


async def test_the_store_never_sees_a_token_or_a_password(door: world.Door, inner: store.SQLiteStore) -> None:
    first = await door.register()
    written = b"".join(each.read_bytes() for each in inner.folder.iterdir() if each.is_file())
    assert b"asha" in written
    assert first.token not in written
    assert world.PASSWORD.encode() not in written


async def test_a_token_that_is_due_gets_a_successor_and_works_until_that_is_used(door: world.Door) -> None:
    first = await door.register()
    door.clock.now += 30 * accounts.DAY - 1
    assert (await door.token(first.token)).token == b""
    door.clock.now += 1
    second = await door.token(first.token)
    assert len(second.token) == 32
    third = await door.token(first.token)  # as if the Welcome had been lost: another, which replaces the second
    with world.refused(codes.BAD_CREDENTIALS):
        await door.token(second.token)
    assert (await door.token(third.token)).token == b""
    with world.refused(codes.BAD_CREDENTIALS):
        await door.token(first.token)
    assert (await door.token(third.token)).device == first.device


async def test_a_store_that_takes_no_writes_keeps_no_token_out(door: world.Door) -> None:
    first = await door.register()
    door.clock.now += 31 * accounts.DAY
    door.store.broken = {"add_token": errors.Unavailable("disk full")}
    assert (await door.token(first.token)).token == b""
    door.store.broken = {"use_token": errors.Unavailable("disk full")}
    successor = (await door.token(first.token)).token
    assert (await door.token(successor)).user == first.user
    assert (await door.token(first.token)).user == first.user  # that first use was not stored


# --- log in -----------------------------------------------------------------------------------------------------------


async def test_a_log_in_makes_another_device(door: world.Door) -> None:
    first = await door.register()
    second = await door.login("ASHA")
    assert second.user == first.user
    assert door.announced[-1] == (second.user, second.device, "laptop")
    assert sorted(await door.devices(first.user)) == sorted([first.device, second.device])


async def test_a_repeated_log_in_finds_its_device_and_gets_a_token_that_works(door: world.Door) -> None:
    await door.register()
    request = world.request()
    first = await door.login(again=request)
    repeat = await door.login(again=request)
    assert repeat.device == first.device
    assert repeat.token != first.token
    assert len(await door.devices(first.user)) == 2
    assert (await door.token(first.token)).device == first.device
    assert (await door.token(repeat.token)).device == first.device


async def test_the_same_log_in_twice_at_once_gives_two_answers_with_one_device(door: world.Door) -> None:
    await door.register()
    request = world.request()
    first, second = await asyncio.gather(door.login(again=request), door.login(again=request))
    assert first.device == second.device
    record = await door.store.find_token(tokens.fingerprint(first.token))
    old, new = (second, first) if record.successor else (first, second)
    assert (await door.token(old.token)).device == old.device
    assert (await door.token(new.token)).device == old.device


async def test_a_wrong_password_and_an_unknown_name_get_the_same_answer_by_the_same_way(door: world.Door) -> None:
    await door.register()
    seen = []
    for name in ("asha", "nobody"):
        door.store.calls.clear()
        door.passwords.verified.clear()
        with world.refused(codes.BAD_CREDENTIALS) as refusal:
            await door.login(name, "a wrong password")
        seen.append((refusal.value.text, refusal.value.retry_after_ms, list(door.store.calls), len(door.passwords.verified)))
    assert seen[0] == seen[1]
    assert seen[0][3] == 1
    assert door.passwords.verified == [None]  # the work that was done in vain, for nobody


async def test_a_user_of_an_issuer_has_no_password_and_nothing_tells(door: world.Door) -> None:
    await door.jwt(preferred_username="ben")
    with world.refused(codes.BAD_CREDENTIALS):
        await door.login("ben", "")
    door.passwords.verified.clear()
    with world.refused(codes.BAD_CREDENTIALS):
        await door.login("ben")
    assert door.passwords.verified == [None]


async def test_guesses_are_limited_per_account_and_address_while_the_owner_gets_in_elsewhere(door: world.Door) -> None:
    await door.register()
    for _ in range(world.PER_ACCOUNT):
        with world.refused(codes.BAD_CREDENTIALS):
            await door.login(password="a wrong guess", address=world.ELSEWHERE)
    with world.refused(codes.RATE_LIMITED) as refusal:
        await door.login(address=world.ELSEWHERE)  # even with the right password
    assert 0 < refusal.value.retry_after_ms <= world.WINDOW
    assert door.counts.limited == {"attempts": 1}
    await door.login()  # the owner, at home
    door.clock.now += refusal.value.retry_after_ms
    await door.login(address=world.ELSEWHERE)


async def test_guesses_are_limited_per_address_over_all_names_and_devices_with_tokens_still_come_in(door: world.Door) -> None:
    first = await door.register()
    for number in range(world.PER_ADDRESS - 1):  # the registration was one
        with world.refused(codes.BAD_CREDENTIALS):
            await door.login(f"user{number}", "a wrong guess")
    with world.refused(codes.RATE_LIMITED):
        await door.login()
    assert (await door.token(first.token)).user == first.user
    await door.jwt()


async def test_parallel_guesses_are_limited_like_those_one_after_the_other(door: world.Door) -> None:
    await door.register()
    guesses = [door.login(password="a wrong guess", address=world.ELSEWHERE) for _ in range(10)]
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    symbols = [answer.error.symbol for answer in answers if isinstance(answer, codes.Refused)]
    assert symbols.count("bad_credentials") == world.PER_ACCOUNT
    assert symbols.count("rate_limited") == 10 - world.PER_ACCOUNT


async def test_right_log_ins_and_those_the_server_could_not_check_cost_nothing(door: world.Door) -> None:
    await door.register()
    for _ in range(world.PER_ADDRESS * 2):
        await door.login(address=world.ELSEWHERE)
    door.store.broken = {"user_by_key": errors.Unavailable("reopening")}
    for _ in range(world.PER_ADDRESS * 2):
        with world.refused(codes.UNAVAILABLE):
            await door.login(address=world.ELSEWHERE)
    door.store.broken = {}
    await door.login(address=world.ELSEWHERE)


async def test_a_busy_answer_costs_no_attempt(door: world.Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await door.register()

    async def busy(*_: object) -> bool:
        raise codes.Refused(codes.BUSY, retry_after_ms=1)

    with monkeypatch.context() as patch:
        patch.setattr(door.passwords, "verify", busy)
        for _ in range(world.PER_ADDRESS * 2):
            with world.refused(codes.BUSY):
                await door.login()
    await door.login()


async def test_a_log_in_replaces_a_hash_of_another_cost_once(inner: store.SQLiteStore, door: world.Door) -> None:
    user = (await door.register()).user
    before = (await door.user(user)).password
    dearer = world.Door(inner, passwords.Cost(16, 2))
    await dearer.login()
    after = (await door.user(user)).password
    assert before is not None
    assert after is not None
    assert before.startswith("$argon2id$v=19$m=8,t=1,")
    assert after.startswith("$argon2id$v=19$m=16,t=2,")
    await dearer.login()
    assert (await door.user(user)).password == after
    dearer.passwords.close()


async def test_a_hash_that_cannot_be_replaced_now_keeps_nobody_out(inner: store.SQLiteStore, door: world.Door) -> None:
    await door.register()
    dearer = world.Door(inner, passwords.Cost(16, 2))
    dearer.store.broken = {"set_password": errors.Unavailable("disk full")}
    await dearer.login()
    dearer.passwords.close()


async def test_a_password_changed_during_a_log_in_is_not_set_back(
    inner: store.SQLiteStore, door: world.Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = (await door.register()).user
    dearer = world.Door(inner, passwords.Cost(16, 2))
    real = dearer.passwords.hash
    changed = await dearer.passwords.hash("changed meanwhile")

    async def hash_slowly(password: str) -> str:
        await inner.set_password(user, changed, (await door.user(user)).password)
        return await real(password)

    monkeypatch.setattr(dearer.passwords, "hash", hash_slowly)
    with world.refused(codes.BAD_CREDENTIALS):
        await dearer.login()
    assert (await door.user(user)).password == changed
    dearer.passwords.close()


@pytest.mark.parametrize("how", ["change", "reset"])
async def test_no_log_in_with_the_old_password_comes_in_behind_a_new_one(door: world.Door, how: str) -> None:
    first = await door.register()
    real = door.passwords.verify

    async def verify_long(hashed: str | None, password: str) -> bool:
        found = await real(hashed, password)
        door.passwords.verify = real  # type: ignore[method-assign]
        if how == "change":
            await door.admitter.change_password(first.user, world.PASSWORD, "another horse")
        else:
            await door.reset(await door.admitter.issue_reset("asha"))
        return found

    door.passwords.verify = verify_long  # type: ignore[method-assign]
    before = len(door.announced)
    with world.refused(codes.BAD_CREDENTIALS):
        await door.login()
    devices = await door.devices(first.user)
    assert len(devices) == 1
    assert [device for _, device, _ in door.announced[before:]] == ([] if how == "change" else devices)


async def test_a_log_in_whose_password_was_hashed_anew_meanwhile_comes_in(door: world.Door) -> None:
    first = await door.register()
    real = door.passwords.verify

    async def verify_long(hashed: str | None, password: str) -> bool:
        found = await real(hashed, password)
        door.passwords.verify = real  # type: ignore[method-assign]
        again = await door.passwords.hash(world.PASSWORD)
        await door.store.set_password(first.user, again, (await door.user(first.user)).password)
        return found

    door.passwords.verify = verify_long  # type: ignore[method-assign]
    assert (await door.login()).user == first.user


async def test_a_device_gets_no_token_before_the_others_can_hear_of_it(door: world.Door) -> None:
    await door.register()
    request = world.request()
    door.admitter._announce = announce = AsyncMock(side_effect=codes.Refused(codes.UNAVAILABLE))
    with world.refused(codes.UNAVAILABLE):
        await door.login(again=request)
    announce.side_effect = None
    found = await door.login(again=request)
    announce.assert_awaited_with(found.user, found.device, "laptop")


async def test_an_account_has_no_more_devices_than_can_be_told_of(door: world.Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MOST_DEVICES", 2)
    first, request = await door.register(), world.request()
    second = await door.login(again=request)
    with world.refused(codes.TOO_MANY):
        await door.login()
    assert (await door.login(again=request)).device == second.device
    await door.store.revoke_device(first.user, first.device)
    await door.login()


# --- registration -----------------------------------------------------------------------------------------------------


async def test_a_repeated_registration_finds_account_and_device_of_the_first(door: world.Door) -> None:
    request = world.request()
    first = await door.register("Asha", again=request)
    repeat = await door.register("asha", again=request)
    assert (repeat.user, repeat.device) == (first.user, first.device)
    assert (await door.token(repeat.token)).user == first.user


async def test_the_same_registration_twice_at_once_makes_one_account(door: world.Door) -> None:
    request = world.request()
    one, two = await asyncio.gather(door.register(again=request), door.register(again=request))
    assert (one.user, one.device) == (two.user, two.device)


async def test_a_taken_name_is_refused_also_with_the_request_but_another_password(door: world.Door) -> None:
    request = world.request()
    await door.register("Asha", again=request)
    with world.refused(codes.NAME_TAKEN):
        await door.register("aSHA")
    with world.refused(codes.NAME_TAKEN):
        await door.register("asha", "another password", again=request)


async def test_of_two_who_want_one_name_at_once_one_gets_it(door: world.Door) -> None:
    answers = await asyncio.gather(door.register("asha"), door.register("ASHA"), return_exceptions=True)
    refusals = [answer for answer in answers if isinstance(answer, codes.Refused)]
    assert [refusal.error for refusal in refusals] == [codes.NAME_TAKEN]


async def test_a_bad_name_or_password_is_refused_before_anything_is_looked_up(door: world.Door) -> None:
    with world.refused(codes.BAD_NAME):
        await door.register("two words")
    with world.refused(codes.WEAK_PASSWORD):
        await door.register("asha", "short")
    assert door.store.calls == []


async def test_registrations_are_limited_per_address(door: world.Door) -> None:
    for number in range(world.PER_ADDRESS):
        await door.register(f"user{number}")
    with world.refused(codes.RATE_LIMITED):
        await door.register("one-too-many")


async def test_closed_registration_is_closed_and_others_still_come_in(door: world.Door) -> None:
    await door.register()
    door.admitter = door.make(registration="closed")
    with world.refused(codes.REGISTRATION_CLOSED):
        await door.register("ben")
    await door.login()
    await door.admitter.add_user("ben", world.PASSWORD)
    await door.login("ben")
    await door.jwt()


async def test_by_invitation_each_use_lets_one_in_and_a_repeat_uses_none(door: world.Door) -> None:
    door.admitter = door.make(registration="invite")
    code = await door.admitter.issue_invitation(uses=2)
    request = world.request()
    first = await door.register("asha", again=request, invitation=code)
    assert (await door.register("asha", again=request, invitation=code)).user == first.user
    await door.register("ben", invitation=code.lower().replace("-", ""))
    with world.refused(codes.BAD_INVITATION):
        await door.register("cleo", invitation=code)


async def test_an_invitation_ends_at_its_time(door: world.Door) -> None:
    door.admitter = door.make(registration="invite")
    code = await door.admitter.issue_invitation(uses=9, expires_at=door.clock.now + 1000)
    door.clock.now += 999
    await door.register("asha", invitation=code)
    door.clock.now += 1
    with world.refused(codes.BAD_INVITATION):
        await door.register("ben", invitation=code)


async def test_without_an_invitation_nobody_learns_which_names_are_taken(door: world.Door) -> None:
    await door.register("asha")
    door.admitter = door.make(registration="invite")
    door.store.calls.clear()
    for name in ("asha", "nobody"):
        for invitation in ("", "ABCD-EFGH", "x" * 64):
            with world.refused(codes.BAD_INVITATION):
                await door.register(name, invitation=invitation)
    assert door.store.calls == []


async def test_a_name_that_is_taken_uses_up_no_invitation(door: world.Door) -> None:
    door.admitter = door.make(registration="invite")
    code = await door.admitter.issue_invitation()
    await door.admitter.add_user("asha", world.PASSWORD)
    with world.refused(codes.NAME_TAKEN):
        await door.register("asha", invitation=code)
    await door.register("ben", invitation=code)


async def test_a_registration_whose_outcome_was_unknown_is_found_by_its_repeat(door: world.Door) -> None:
    door.admitter = door.make(registration="invite")
    code = await door.admitter.issue_invitation()
    request = world.request()
    door.store.after = {"create_user": errors.OutcomeUnknown("cut off")}
    with world.refused(codes.UNKNOWN):
        await door.register(again=request, invitation=code)
    first = await door.register(again=request, invitation=code)
    assert (await door.token(first.token)).name == "asha"


async def test_an_invitation_is_used_once_by_a_registration_whose_answer_was_lost(door: world.Door) -> None:
    door.admitter = door.make(registration="invite")
    code = await door.admitter.issue_invitation(uses=2)
    request = world.request()
    for name in ("take_code", "create_user"):
        door.store.after = {name: errors.OutcomeUnknown("cut off")}
        with world.refused(codes.UNKNOWN):
            await door.register(again=request, invitation=code)
    await door.register(again=request, invitation=code)
    await door.register("ben", invitation=code)
    with world.refused(codes.BAD_INVITATION):
        await door.register("cara", invitation=code)


# --- JWT --------------------------------------------------------------------------------------------------------------


async def test_a_user_of_an_issuer_has_an_account_at_first_sight_and_the_same_one_ever_after(door: world.Door) -> None:
    first = await door.jwt(preferred_username="Ben")
    assert first.name == "Ben"
    assert door.announced == [(first.user, first.device, "web")]
    again = await door.jwt(preferred_username="Renamed")
    assert (again.user, again.name) == (first.user, "Ben")
    assert again.device != first.device
    assert (await door.jwt(sub="18")).user != first.user
    assert (await door.token(first.token)).user == first.user


async def test_a_repeated_log_in_by_jwt_finds_its_device(door: world.Door) -> None:
    request = world.request()
    first, repeat = await asyncio.gather(door.jwt(again=request), door.jwt(again=request))
    assert (first.user, first.device) == (repeat.user, repeat.device)


async def test_a_proposed_name_that_is_taken_gets_an_ending_and_never_the_other_account(door: world.Door) -> None:
    asha = await door.register("asha")
    other = await door.jwt(preferred_username="ASHA")
    assert other.user != asha.user
    assert other.name.startswith("ASHA-")


@pytest.mark.parametrize("claim", ["", "two words", "\u202eevil", "é" * 200, "אבג", 5, None])
async def test_without_a_usable_proposal_a_name_is_made_up(door: world.Door, claim: object) -> None:
    first = await door.jwt(preferred_username=claim)
    assert first.name
    second = await door.jwt(sub="18", preferred_username=claim)
    assert second.name.casefold() != first.name.casefold()


async def test_a_jwt_that_does_not_hold_makes_no_account(door: world.Door) -> None:
    with world.refused(codes.BAD_CREDENTIALS):
        await door.jwt(aud="another")
    assert door.store.calls == []


# --- reset ------------------------------------------------------------------------------------------------------------


async def test_a_reset_sets_the_password_once_and_logs_out_all_devices(door: world.Door) -> None:
    first = await door.register()
    second = await door.login()
    code = await door.admitter.issue_reset("ASHA")
    fresh = await door.reset(code)
    assert await door.devices(first.user) == [fresh.device]
    assert sorted(door.revoked) == sorted([(first.user, first.device), (first.user, second.device)])
    with world.refused(codes.BAD_CREDENTIALS):
        await door.token(first.token)
    with world.refused(codes.BAD_CREDENTIALS):
        await door.login()
    await door.login(password="another horse")
    with world.refused(codes.BAD_INVITATION):
        await door.reset(code, password="a third horse")


async def test_a_repeated_reset_finds_its_device_although_the_code_is_used_up(door: world.Door) -> None:
    user = (await door.register()).user
    code, request = await door.admitter.issue_reset("asha"), world.request()
    first = await door.reset(code, again=request)
    repeat = await door.reset(code, again=request)
    assert (repeat.user, repeat.device) == (user, first.device)
    assert (user, first.device) not in door.revoked
    assert (await door.token(first.token)).user == user
    assert (await door.token(repeat.token)).user == user


@pytest.mark.parametrize("step", ["take_code", "set_password", "void_codes", "devices", "revoke_device", "add_device"])
async def test_a_reset_that_is_cut_off_after_any_step_can_be_repeated(door: world.Door, step: str) -> None:
    first = await door.register()
    code, request = await door.admitter.issue_reset("asha"), world.request()
    assert (await door.login()).user == first.user
    door.store.after = {step: errors.OutcomeUnknown("cut off")}
    with world.refused(codes.UNKNOWN):
        await door.reset(code, again=request)
    fresh = await door.reset(code, again=request)
    assert await door.devices(first.user) == [fresh.device]
    await door.login(password="another horse")


@pytest.mark.parametrize("other", [{"code": "WRONG-CODE"}, {"again": b"another request!"}, {"password": "a third horse"}])
async def test_a_used_code_opens_nothing_but_to_the_same_request_with_the_same_password(
    door: world.Door, other: dict[str, Any]
) -> None:
    first = await door.register()
    same: dict[str, Any] = {"code": await door.admitter.issue_reset("asha"), "again": world.request()}
    fresh = await door.reset(**same)
    with world.refused(codes.BAD_INVITATION):
        await door.reset(**(same | other))
    assert await door.devices(first.user) == [fresh.device]
    assert (await door.token(fresh.token)).user == first.user


async def test_guesses_of_a_code_with_the_right_password_are_counted(door: world.Door) -> None:
    await door.register()
    door.clock.now += world.PER_ACCOUNT * world.WINDOW  # the registration was counted too
    for _ in range(world.PER_ACCOUNT):
        with world.refused(codes.BAD_INVITATION):
            await door.reset("WRONG-CODE", password=world.PASSWORD)
    with world.refused(codes.RATE_LIMITED):
        await door.reset("WRONG-CODE", password=world.PASSWORD)


async def test_a_repeated_reset_ends_when_the_code_would_have(door: world.Door) -> None:
    await door.register()
    code, request = await door.admitter.issue_reset("asha"), world.request()
    await door.reset(code, again=request)
    door.clock.now += 3600 * 1000
    with world.refused(codes.BAD_INVITATION):
        await door.reset(code, again=request)


async def test_a_wrong_code_and_an_unknown_name_get_the_same_answer_by_the_same_way(door: world.Door) -> None:
    await door.register()
    code = await door.admitter.issue_reset("asha")
    seen = []
    for name, tried in (("asha", "WRONG-CODE"), ("nobody", "WRONG-CODE"), ("nobody", code)):
        door.store.calls.clear()
        door.passwords.verified.clear()
        with world.refused(codes.BAD_INVITATION) as refusal:
            await door.reset(tried, name)
        seen.append((refusal.value.text, list(door.store.calls), len(door.passwords.verified)))
    assert seen[0] == seen[1] == seen[2]
    await door.reset(code)  # typed with a wrong name, it was not used up


async def test_a_reset_code_ends_at_its_time_and_is_guessed_no_oftener_than_a_password(door: world.Door) -> None:
    await door.register()
    code = await door.admitter.issue_reset("asha")
    door.clock.now += 3600 * 1000
    for _ in range(world.PER_ACCOUNT):
        with world.refused(codes.BAD_INVITATION):
            await door.reset(code)
    with world.refused(codes.RATE_LIMITED):
        await door.reset(code)


async def test_a_reset_that_finds_the_pool_busy_uses_up_no_code(door: world.Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await door.register()
    code = await door.admitter.issue_reset("asha")

    async def busy(_: str) -> str:
        raise codes.Refused(codes.BUSY, retry_after_ms=1)

    with monkeypatch.context() as patch:
        patch.setattr(door.passwords, "hash", busy)
        with world.refused(codes.BUSY):
            await door.reset(code)
    await door.reset(code)


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "answered"),
    [
        (errors.Unavailable("disk full"), codes.UNAVAILABLE),
        (errors.Damaged("a bad checksum"), codes.UNAVAILABLE),
        (errors.OutcomeUnknown("cut off"), codes.UNKNOWN),
    ],
)
async def test_trouble_of_the_store_is_a_temporary_answer(
    door: world.Door, raised: errors.StorageError, answered: codes.Error
) -> None:
    await door.register()
    door.store.broken = {"add_device": raised}
    for knock in (door.login, door.jwt):
        with world.refused(answered) as refusal:
            await knock()
        assert refusal.value.error.temporary
        assert refusal.value.retry_after_ms > 0


async def test_an_account_deleted_in_the_same_moment_is_not_admitted(door: world.Door) -> None:
    user = (await door.register()).user
    door.store.broken = {"add_device": errors.NoSuch("no user")}
    with world.refused(codes.BAD_CREDENTIALS):
        await door.login()
    door.store.broken = {}
    await door.store.delete_user(user, door.clock.now)
    with world.refused(codes.BAD_CREDENTIALS):
        await door.login()


async def test_a_token_whose_account_is_deleted_between_the_two_reads_is_refused(
    door: world.Door, inner: store.SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await door.register()

    async def deleted(user: int) -> object:
        await inner.delete_user(user, door.clock.now)
        return await inner.user(user)

    monkeypatch.setattr(door.store, "user", deleted, raising=False)
    with world.refused(codes.BAD_CREDENTIALS):
        await door.token(first.token)


async def test_outcomes_are_counted(door: world.Door) -> None:
    first = await door.register()
    await door.login()
    await door.token(first.token)
    await door.jwt()
    with world.refused(codes.BAD_CREDENTIALS):
        await door.login(password="a wrong guess")
    assert door.counts.logins == {"registered": 1, "password": 1, "token": 1, "jwt": 1, "bad_credentials": 1}


async def test_no_refusal_holds_a_secret(door: world.Door) -> None:
    await door.register()
    secret = "s3cret-that-was-typed"
    bad_jwt = door.sign(aud=secret)
    door.admitter = door.make(registration="invite")
    credentials: list[messages.Credential] = [
        messages.TokenCredential(secret.encode()),
        messages.PasswordCredential("asha", secret, world.request()),
        messages.PasswordCredential("asha", secret + "\n", world.request()),
        messages.RegisterCredential("asha", secret, world.request(), "", secret),
        messages.ResetCredential("asha", secret, secret + "\0", world.request()),
        messages.ResetCredential("asha", secret, secret, world.request()),
        messages.JwtCredential(bad_jwt, world.request()),
    ]
    for credential in credentials:
        with pytest.raises(codes.Refused) as info:
            await door.knock(credential)
        assert all(secret not in text and bad_jwt not in text for text in world.chain(info.value))


async def test_nothing_that_is_logged_holds_a_secret(door: world.Door) -> None:
    with structlog.testing.capture_logs() as lines:
        first = await door.register()
        await door.token(first.token)
        with world.refused(codes.BAD_CREDENTIALS):
            await door.login(password="s3cret-that-was-typed")
        code = await door.admitter.issue_reset("asha")
        await door.reset(code)
    assert {line["event"] for line in lines} == {"not_admitted"}
    text = repr(lines)
    for secret in ("s3cret", world.PASSWORD, code, first.token.hex(), repr(first.token)):
        assert secret not in text


def test_settings_are_plain_values() -> None:
    assert dataclasses.asdict(accounts.Settings()) == {
        "registration": "open",
        "token_rotation": 30 * 24 * 3600 * 1000,
        "reset_code": 3600 * 1000,
    }
