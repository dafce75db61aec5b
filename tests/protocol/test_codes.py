"""Numbers and symbols are unique, and the ranges say what the codes do."""

from __future__ import annotations

from protocol import codes, connection


def test_numbers_and_symbols_of_errors_are_unique() -> None:
    assert len(codes.BY_NUMBER) == len(codes.BY_SYMBOL) == len(codes.ERRORS) > 0


def test_codes_and_symbols_of_closes_are_unique() -> None:
    assert len(codes.CLOSE_BY_CODE) == len({each.symbol for each in codes.CLOSES}) == len(codes.CLOSES) > 0


def test_an_error_is_temporary_exactly_in_the_four_hundreds() -> None:
    for error in codes.ERRORS:
        assert 100 <= error.number < 500
        assert error.temporary is (error.number // 100 == 4)
        assert error.fault is not codes.Fault.SERVER or error.temporary


def test_a_close_says_come_back_exactly_in_the_stated_ranges() -> None:
    for close in codes.CLOSES:
        assert close.code in (1000, 1012, 1013) or 4000 <= close.code <= 4999
        assert close.reconnect is (close.code in (1012, 1013) or 4000 <= close.code <= 4499)


def test_a_close_reason_fits_into_a_close_frame() -> None:
    """RFC 6455 section 5.5: a control frame carries at most 125 bytes, two of them the code."""
    assert all(len(close.text.encode()) <= 123 for close in codes.CLOSES)


def test_an_error_frame_says_what_the_refusal_said() -> None:
    for error in codes.ERRORS:
        frame = connection.error_frame(7, codes.Refused(error, "name: too long", 1500))
        assert (frame.rid, frame.number, frame.symbol, frame.text) == (7, error.number, error.symbol, "name: too long")
        assert (frame.temporary, frame.retry_after_ms) == (error.temporary, 1500)
        assert connection.error_frame(7, codes.Refused(error)).text == error.text
