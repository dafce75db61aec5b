"""Users, devices, tokens and codes, as `interfaces.AccountStore` promises them."""

from __future__ import annotations

import pytest

from storage import errors, interfaces, records
from tests.storage import make
from tests.storage.make import ASHA, BEN, CARA, DIRECT, LAPTOP, PHONE, append, event, member


async def test_a_user_is_found_by_id_key_and_subject(store: interfaces.Store) -> None:
    asha = make.user(ASHA, "asha", password=None, issuer="iss", subject="sub")
    assert await store.create_user(asha) == asha
    assert await store.user(ASHA) == asha
    assert await store.user_by_key("asha") == asha
    assert await store.user_by_subject("iss", "sub") == asha
    assert await store.user(BEN) is None
    assert await store.user_by_key("ben") is None
    assert await store.user_by_subject("iss", "other") is None


async def test_a_name_belongs_to_one_user(store: interfaces.Store) -> None:
    await store.create_user(make.user(ASHA, "asha", request=b"one"))
    for other in (b"two", None):
        with pytest.raises(errors.NameTaken):
            await store.create_user(make.user(BEN, "asha", request=other))
    assert await store.user(BEN) is None


async def test_a_repeated_registration_finds_the_first(store: interfaces.Store) -> None:
    first = await store.create_user(make.user(ASHA, "asha", request=b"one"))
    assert await store.create_user(make.user(BEN, "asha", request=b"one")) == first
    foreign = await store.create_user(make.user(CARA, "cara", password=None, issuer="i", subject="s"))
    assert await store.create_user(make.user(99, "other", password=None, issuer="i", subject="s")) == foreign


async def test_living_users_are_found_by_the_beginning_of_their_key(store: interfaces.Store) -> None:
    for number, name in enumerate(["zoë", "asha", "ash", "ben", "asta", "a_b", "a%b"], start=1):
        await store.create_user(make.user(number, name))
    await store.delete_user(5, 2_000)
    assert [found.key for found in await store.find_users("as", 9)] == ["ash", "asha"]
    assert [found.key for found in await store.find_users("a", 3)] == ["a%b", "a_b", "ash"]
    assert [found.key for found in await store.find_users("zoë", 9)] == ["zoë"]
    assert await store.find_users("%", 9) == []


async def test_a_rename_frees_the_old_name(store: interfaces.Store) -> None:
    await store.create_user(make.user(ASHA, "asha"))
    await store.create_user(make.user(BEN, "ben"))
    with pytest.raises(errors.NameTaken):
        await store.rename(BEN, "Asha", "asha")
    await store.rename(ASHA, "Usha", "usha")
    await store.rename(ASHA, "USHA", "usha")
    await store.rename(BEN, "Asha", "asha")
    found = await store.user(ASHA)
    assert found is not None
    assert (found.name, found.key) == ("USHA", "usha")
    with pytest.raises(errors.NoSuch):
        await store.rename(CARA, "Cara", "cara")


async def test_a_password_is_replaced(store: interfaces.Store) -> None:
    await store.create_user(make.user(ASHA, "asha"))
    for _ in range(2):
        await store.set_password(ASHA, "new", "$argon2id$")
    with pytest.raises(errors.NoSuch):
        await store.set_password(ASHA, "another", "$argon2id$")
    found = await store.user(ASHA)
    assert found is not None
    assert found.password == "new"
    with pytest.raises(errors.NoSuch):
        await store.set_password(BEN, "new", None)


async def test_a_deletion_is_remembered_until_it_is_finished(store: interfaces.Store) -> None:
    for user in (ASHA, BEN, CARA):
        await store.create_user(make.user(user, f"user {user}"))
    assert await store.unfinished_deletions(9) == []
    await store.delete_user(ASHA, 2_000)
    await store.delete_user(BEN, 2_000)
    assert sorted(await store.unfinished_deletions(9)) == [ASHA, BEN]
    assert len(await store.unfinished_deletions(1)) == 1
    for _ in range(2):
        await store.finish_deletion(ASHA)
    await store.delete_user(ASHA, 3_000)
    assert await store.unfinished_deletions(9) == [BEN]


async def test_a_deleted_account_leaves_only_its_id(store: interfaces.Store) -> None:
    await store.create_user(make.user(ASHA, "asha", issuer="i", subject="s", request=b"r"))
    await store.add_device(make.device(ASHA, PHONE), make.token(ASHA, PHONE, b"t"))
    await store.add_code(records.Code(b"c" * 32, "reset", ASHA, 1, 9_000))
    await store.delete_user(ASHA, 2_000)
    await store.delete_user(ASHA, 3_000)
    assert await store.user(ASHA) == records.User(ASHA, "", None, None, None, None, 1_000)
    assert await store.devices(ASHA) == []
    assert await store.find_token(make.token(ASHA, PHONE, b"t").digest) is None
    assert await store.user_by_subject("i", "s") is None
    with pytest.raises(errors.NoSuch):
        await store.take_code(b"c" * 32, "reset", 1_000, b"r")
    with pytest.raises(errors.NoSuch):
        await store.add_device(make.device(ASHA, LAPTOP), make.token(ASHA, LAPTOP, b"u"))
    with pytest.raises(errors.NameTaken):
        await store.create_user(make.user(ASHA, "again"))
    assert await store.create_user(make.user(BEN, "asha")) == make.user(BEN, "asha")


async def test_a_device_comes_with_its_token_and_goes_with_it(store: interfaces.Store) -> None:
    await store.create_user(make.user(ASHA, "asha"))
    phone, token = make.device(ASHA, PHONE), make.token(ASHA, PHONE, b"t")
    await store.add_device(phone, token)
    await store.add_device(phone, token)
    await store.add_device(make.device(ASHA, LAPTOP), make.token(ASHA, LAPTOP, b"u"))
    assert await store.find_token(token.digest) == token
    await store.rename_device(ASHA, PHONE, "my phone")
    assert [found.name for found in await store.devices(ASHA)] == ["my phone", "device 22"]
    assert await store.revoke_device(ASHA, PHONE)
    assert not await store.revoke_device(ASHA, PHONE)
    assert not await store.revoke_device(BEN, LAPTOP)
    assert await store.find_token(token.digest) is None
    assert [found.id for found in await store.devices(ASHA)] == [LAPTOP]
    with pytest.raises(errors.NoSuch):
        await store.rename_device(ASHA, PHONE, "x")


async def test_a_repeated_login_moves_no_cursor(store: interfaces.Store) -> None:
    await store.create_user(make.user(ASHA, "asha"))
    phone, token = make.device(ASHA, PHONE), make.token(ASHA, PHONE, b"t")
    await store.add_device(phone, token)
    await make.stored(store, append(DIRECT, 1, event(), members=[member(ASHA, DIRECT)]))
    await store.add_device(phone, token)
    assert [found.stream for found in await store.behind(ASHA, PHONE)] == [DIRECT]


async def test_the_token_in_use_works_until_its_successor_is_used(store: interfaces.Store) -> None:
    await store.create_user(make.user(ASHA, "asha"))
    old, lost, new = (make.token(ASHA, PHONE, name, name != b"old") for name in (b"old", b"lost", b"new"))
    await store.add_device(make.device(ASHA, PHONE), old)
    await store.add_token(lost)
    await store.add_token(new)
    await store.add_token(new)
    assert await store.find_token(lost.digest) is None
    assert await store.find_token(old.digest) == old
    assert await store.find_token(new.digest) == new
    await store.use_token(new)
    await store.use_token(new)
    assert await store.find_token(old.digest) is None
    assert await store.find_token(new.digest) == make.token(ASHA, PHONE, b"new")
    with pytest.raises(errors.NoSuch):
        await store.use_token(lost)
    with pytest.raises(errors.NoSuch):
        await store.add_token(make.token(ASHA, LAPTOP, b"x", True))


async def test_a_code_is_used_as_often_as_it_allows(store: interfaces.Store) -> None:
    code = records.Code(b"c" * 32, "invite", 0, 2, 9_000)
    await store.add_code(code)
    await store.add_code(code)
    for bad in ((b"d" * 32, "invite", 1), (code.digest, "reset", 1), (code.digest, "invite", 9_000)):
        with pytest.raises(errors.NoSuch):
            await store.take_code(*bad, b"r")
    assert (await store.take_code(code.digest, "invite", 1, b"one")).code.uses == 1
    assert (await store.take_code(code.digest, "invite", 8_999, b"two")).code.uses == 0
    with pytest.raises(errors.NoSuch):
        await store.take_code(code.digest, "invite", 1, b"three")


async def test_who_has_taken_a_code_finds_it_taken_and_takes_no_more_of_it(store: interfaces.Store) -> None:
    code = records.Code(b"c" * 32, "invite", 7, 2, 9_000)
    await store.add_code(code)
    first = await store.take_code(code.digest, "invite", 1, b"one", b"a note")
    assert first == records.Taken(records.Code(code.digest, "invite", 7, 1, 9_000), b"a note")
    assert await store.take_code(code.digest, "invite", 9_999, b"one", b"another") == first
    await store.take_code(code.digest, "invite", 2, b"two")
    assert await store.take_code(code.digest, "invite", 3, b"one") == first
    with pytest.raises(errors.NoSuch):
        await store.take_code(code.digest, "reset", 3, b"one")


async def test_codes_that_are_over_are_swept_and_no_others(store: interfaces.Store) -> None:
    for name, uses, expires_at in ((b"a", 1, 500), (b"b", 1, 5_000), (b"c", 1, 0), (b"d", 1, 0)):
        await store.add_code(records.Code(name * 32, "invite", 0, uses, expires_at))
    await store.take_code(b"c" * 32, "invite", 900, b"r")
    await store.take_code(b"d" * 32, "invite", 1_000, b"r")
    assert await store.sweep_codes(1_000) == 2
    for name in (b"a", b"c"):
        with pytest.raises(errors.NoSuch):
            await store.take_code(name * 32, "invite", 1, b"r")
    assert (await store.take_code(b"d" * 32, "invite", 1_001, b"r")).code.uses == 0
    assert (await store.take_code(b"b" * 32, "invite", 1_001, b"r")).code.uses == 0


async def test_last_seen_is_the_latest_of_all_devices_and_never_goes_back(store: interfaces.Store) -> None:
    await store.create_user(make.user(ASHA, "asha"))
    for number in (PHONE, LAPTOP):
        await store.add_device(make.device(ASHA, number), make.token(ASHA, number, b"%d" % number))
    assert await store.last_seen(ASHA) == 0
    assert await store.last_seen(BEN) == 0
    await make.stored(store, records.LastSeen(ASHA, PHONE, 7_000), records.LastSeen(ASHA, LAPTOP, 6_000))
    await make.stored(store, records.LastSeen(ASHA, PHONE, 5_000))
    assert await store.last_seen(ASHA) == 7_000
    assert [(found.id, found.last_seen) for found in await store.devices(ASHA)] == [(PHONE, 7_000), (LAPTOP, 6_000)]


async def test_silent_devices_are_forgotten(store: interfaces.Store) -> None:
    await store.create_user(make.user(ASHA, "asha"))
    for number, seen in ((1, 5_000), (2, 9_000), (3, 4_000), (4, 0)):
        await store.add_device(make.device(ASHA, number, seen), make.token(ASHA, number, b"%d" % number))
    forgotten = await store.forget_devices(6_000, 2) + await store.forget_devices(6_000, 2)
    assert {found.id for found in forgotten} == {1, 3, 4}
    assert await store.forget_devices(6_000, 2) == []
    assert await store.find_token(make.token(ASHA, 1, b"1").digest) is None
    assert [found.id for found in await store.devices(ASHA)] == [2]


async def test_codes_that_were_voided_are_taken_by_nobody_new_and_may_be_repeated(store: interfaces.Store) -> None:
    taken, fresh, other, invitation = (
        records.Code(name * 32, purpose, user, 1, 9_000)
        for name, purpose, user in ((b"t", "reset", ASHA), (b"f", "reset", ASHA), (b"o", "reset", BEN), (b"i", "invite", ASHA))
    )
    for code in (taken, fresh, other, invitation):
        await store.add_code(code)
    first = await store.take_code(taken.digest, "reset", 1, b"r", b"note")
    for _ in range(2):
        await store.void_codes(ASHA, "reset")
    assert await store.take_code(taken.digest, "reset", 1, b"r", b"other") == first
    with pytest.raises(errors.NoSuch):
        await store.take_code(fresh.digest, "reset", 1, b"r")
    await store.take_code(other.digest, "reset", 1, b"r")
    await store.take_code(invitation.digest, "invite", 1, b"r")
