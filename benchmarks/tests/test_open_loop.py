import pytest

from benchmarks.open_loop import whole_answer

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx: y\r\n\r\nhello"


def test_an_answer_is_whole_only_with_its_last_byte() -> None:
    assert whole_answer(ANSWER) == len(ANSWER)
    assert all(whole_answer(ANSWER[:cut]) is None for cut in range(len(ANSWER)))


def test_the_length_may_be_the_last_header_and_lower_case() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nok"
    assert whole_answer(answer) == len(answer)


def test_an_answer_without_length_is_refused_rather_than_guessed() -> None:
    with pytest.raises(ValueError, match="content-length"):
        whole_answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
