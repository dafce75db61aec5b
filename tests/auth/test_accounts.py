"""What owners and the operator do to accounts."""

from __future__ import annotations

import asyncio

import pytest

from auth import accounts, attempts
from protocol import codes
from storage import errors, records
from tests.auth import world


async def test_a_changed_password_is_the_one_that_counts_and_devices_stay(door: world.Door) -> None:
    first = await door.register()
    await door.admitter.change_password(first.user, world.PASSWORD, "another horse")
    with world.refused(codes.BAD_CREDENTIALS):
        await door.login()
    await door.login(password="another horse")
    assert (await door.token(first.token)).user == first.user


async def test_a_repeated_change_succeeds_again(door: world.Door) -> None:
    user = (await door.register()).user
    door.store.after = {"set_password": errors.OutcomeUnknown("cut off")}
    with world.refused(codes.UNKNOWN):
        await door.admitter.change_password(user, world.PASSWORD, "another horse")
    await door.admitter.change_password(user, world.PASSWORD, "another horse")
    await door.login(password="another horse")


async def test_a_change_needs_the_old_password_and_a_good_new_one(door: world.Door) -> None:
    user = (await door.register()).user
    with world.refused(codes.BAD_CREDENTIALS):
        await door.admitter.change_password(user, "a wrong guess", "another horse")
    with world.refused(codes.WEAK_PASSWORD):
        await door.admitter.change_password(user, world.PASSWORD, "short")
    await door.login()


async def test_guessing_from_a_stolen_device_is_limited_and_the_owner_still_logs_in(door: world.Door) -> None:
    user = (await door.register()).user
    for _ in range(world.PER_ACCOUNT):
        with world.refused(codes.BAD_CREDENTIALS):
            await door.admitter.change_password(user, "a wrong guess", "another horse")
    with world.refused(codes.RATE_LIMITED):
        await door.admitter.change_password(user, world.PASSWORD, "another horse")
    with world.refused(codes.RATE_LIMITED):
        await door.admitter.confirm_deletion(user, world.PASSWORD)
    await door.login()


async def test_who_has_no_password_cannot_change_it(door: world.Door) -> None:
    user = (await door.jwt()).user
    with world.refused(codes.NOT_ALLOWED):
        await door.admitter.change_password(user, "", "another horse")
    with world.refused(codes.NOT_ALLOWED):
        await door.admitter.change_password(user + 1, "", "another horse")


async def test_deletion_is_confirmed_by_the_password(door: world.Door) -> None:
    user = (await door.register()).user
    for wrong in ("asha", "a wrong guess", "\0"):
        with world.refused(codes.BAD_CREDENTIALS):
            await door.admitter.confirm_deletion(user, wrong)
    door.clock.now += world.WINDOW
    await door.admitter.confirm_deletion(user, world.PASSWORD)
    await door.store.delete_user(user, door.clock.now)
    await door.admitter.confirm_deletion(user, world.PASSWORD)  # a repeat


async def test_deletion_is_confirmed_by_the_name_where_there_is_no_password(door: world.Door) -> None:
    user = (await door.jwt(preferred_username="Ben")).user
    with world.refused(codes.BAD_CREDENTIALS):
        await door.admitter.confirm_deletion(user, "asha")
    await door.admitter.confirm_deletion(user, "ben")


async def test_a_user_whom_the_operator_adds_logs_in(door: world.Door) -> None:
    user = await door.admitter.add_user("Asha", world.PASSWORD)
    assert user.name == "Asha"
    assert (await door.login()).user == user.id
    with world.refused(codes.NAME_TAKEN):
        await door.admitter.add_user("asha", world.PASSWORD)
    with world.refused(codes.BAD_NAME):
        await door.admitter.add_user("two words", world.PASSWORD)
    with world.refused(codes.WEAK_PASSWORD):
        await door.admitter.add_user("ben", "short")


async def test_an_account_of_the_operator_is_nobodys_by_registering_it(door: world.Door) -> None:
    await door.admitter.add_user("asha", world.PASSWORD)
    with world.refused(codes.NAME_TAKEN):
        await door.register("asha")


@pytest.mark.parametrize("name", ["nobody", "two words", "ben"])
async def test_a_reset_is_issued_only_to_who_logs_in_with_a_password(door: world.Door, name: str) -> None:
    await door.jwt(preferred_username="ben")
    with world.refused(codes.NOT_ALLOWED):
        await door.admitter.issue_reset(name)


async def test_codes_are_told_once_and_stored_as_digests(door: world.Door, monkeypatch: pytest.MonkeyPatch) -> None:
    await door.register()
    stored: list[records.Code] = []

    async def add_code(code: records.Code) -> None:
        stored.append(code)

    monkeypatch.setattr(door.store, "add_code", add_code, raising=False)
    issued = [await door.admitter.issue_invitation(3, 99, 7), await door.admitter.issue_reset("asha")]
    assert [(code.purpose, code.uses) for code in stored] == [("invite", 3), ("reset", 1)]
    assert (stored[0].user, stored[0].expires_at) == (7, 99)
    assert stored[1].expires_at == door.clock.now + 3600 * 1000
    assert all(len(code.digest) == 32 for code in stored)
    assert not any(text in repr(code) for text in issued for code in stored)


async def test_trouble_of_the_store_is_a_temporary_answer(door: world.Door) -> None:
    user = (await door.register()).user
    door.store.broken = {
        "user": errors.Unavailable("reopening"),
        "add_code": errors.OutcomeUnknown("cut off"),
        "create_user": errors.Unavailable("disk full"),
    }
    with world.refused(codes.UNAVAILABLE):
        await door.admitter.change_password(user, world.PASSWORD, "another horse")
    with world.refused(codes.UNAVAILABLE):
        await door.admitter.confirm_deletion(user, world.PASSWORD)
    with world.refused(codes.UNKNOWN):
        await door.admitter.issue_invitation()
    with world.refused(codes.UNAVAILABLE):
        await door.admitter.add_user("ben", world.PASSWORD)


async def test_of_several_reset_codes_only_the_newest_works_and_none_after_a_newer_password(door: world.Door) -> None:
    user = (await door.register()).user
    first, second = [await door.admitter.issue_reset("asha") for _ in range(2)]
    with world.refused(codes.BAD_INVITATION):
        await door.reset(first)
    request = world.request()
    await door.reset(second, password="second horse", again=request)
    third = await door.admitter.issue_reset("asha")
    await door.admitter.change_password(user, "second horse", "third horse")
    with world.refused(codes.BAD_INVITATION):
        await door.reset(third, address=world.ELSEWHERE)
    await door.login(password="third horse")


async def test_a_password_whose_change_is_repeated_voids_the_codes_that_the_first_try_did_not(door: world.Door) -> None:
    user = (await door.register()).user
    code = await door.admitter.issue_reset("asha")
    door.store.broken = {"void_codes": errors.OutcomeUnknown("cut off")}
    with world.refused(codes.UNKNOWN):
        await door.admitter.change_password(user, world.PASSWORD, "another horse")
    door.store.broken = {}
    await door.admitter.change_password(user, world.PASSWORD, "another horse")
    with world.refused(codes.BAD_INVITATION):
        await door.reset(code)


async def test_one_address_fills_no_queue_of_hashes_and_another_one_is_let_in_meanwhile(door: world.Door) -> None:
    await door.register()
    go_on = asyncio.Event()
    verify = door.passwords.verify

    async def waiting(hashed: str | None, password: str) -> bool:
        await go_on.wait()
        return await verify(hashed, password)

    door.passwords.verify = waiting  # type: ignore[method-assign]
    names = [f"user{number}" for number in range(accounts.MAX_AT_ONCE)]
    under_way = [asyncio.create_task(door.login(name, address=world.ELSEWHERE)) for name in names]
    while door.store.calls.count("user_by_key") < 1 + len(names):  # noqa: ASYNC110  each then waits for its hash
        await asyncio.sleep(0)
    with world.refused(codes.BUSY) as busy:
        await door.login(address=world.ELSEWHERE)
    assert busy.value.retry_after_ms > 0
    home = asyncio.create_task(door.login())
    go_on.set()
    await home
    assert {type(each) for each in await asyncio.gather(*under_way, return_exceptions=True)} == {codes.Refused}
    assert not door.admitter._under_way


async def test_logging_in_again_and_again_is_limited_too_though_less_than_guessing(door: world.Door) -> None:
    await door.register()
    logged_in = 0
    with world.refused(codes.RATE_LIMITED):
        while logged_in < 1000:
            await door.login(address=world.ELSEWHERE)
            logged_in += 1
    assert logged_in == world.PER_ACCOUNT * attempts.RIGHT_TIMES


async def test_setting_the_clock_neither_frees_nor_locks_out_who_guesses(door: world.Door) -> None:
    for change in (-3_600_000, 3_600_000):
        for _ in range(world.PER_ACCOUNT):
            with world.refused(codes.BAD_CREDENTIALS):
                await door.login("nobody")
        door.set_clock(change)
        with world.refused(codes.RATE_LIMITED) as limited:
            await door.login("nobody")
        assert limited.value.retry_after_ms <= world.WINDOW
        door.clock.now += world.WINDOW


async def test_looking_for_names_that_are_taken_costs_as_much_as_guessing(door: world.Door) -> None:
    user = (await door.register()).user

    def is_taken() -> None:
        with door.admitter.renaming(user):
            raise codes.Refused(codes.NAME_TAKEN)

    for _ in range(world.PER_ACCOUNT):
        with world.refused(codes.NAME_TAKEN):
            is_taken()
    with world.refused(codes.RATE_LIMITED):
        is_taken()
    await door.login()
    door.clock.now += world.WINDOW
    with door.admitter.renaming(user):
        pass
