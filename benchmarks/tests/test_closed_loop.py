import pytest

from benchmarks.closed_loop import LoadFailed, _errors, _number, _seconds, read_log

# What h2load prints at the end of a run, with numbers of our own.
TOLD = """
finished in 2.01s, 1500.00 req/s, 96.50KB/s
requests: 3000 total, 3008 started, 3000 done, 2990 succeeded, 10 failed, 0 errored, 0 timeout
status codes: 2990 2xx, 0 3xx, 4 4xx, 6 5xx
traffic: 193.00KB (197632) total, 60.00KB (61440) headers (space savings 0.00%), 112.00KB (114960) data
"""


def test_errors_are_counted_once() -> None:
    assert _errors(TOLD, done=3000, answer_bytes=None) == 10


def test_a_grpc_answer_without_message_is_an_error_though_http_says_200() -> None:
    fine = TOLD.replace("10 failed", "0 failed").replace("4 4xx, 6 5xx", "0 4xx, 0 5xx")
    # 114,960 bytes of data are 2,395 answers of 48 bytes; the other 605 said no in their trailers.
    assert _errors(fine, done=3000, answer_bytes=48) == 605
    assert _errors(fine, done=2395, answer_bytes=48) == 0


@pytest.mark.parametrize(("told", "seconds"), [("850.12ms", 0.85012), ("2.01s", 2.01), ("1.50m", 90.0), ("90us", 9e-5)])
def test_the_run_time_in_every_unit(told: str, seconds: float) -> None:
    assert _seconds(f"finished in {told}, 1 req/s") == pytest.approx(seconds)


def test_unreadable_output_is_a_failure_with_its_words() -> None:
    with pytest.raises(LoadFailed, match="could not resolve"):
        _number(r"(\d+) done", "could not resolve")


def test_the_log_gives_statuses_and_latencies() -> None:
    statuses, latencies = read_log(b"1700000000000001\t200\t345\n1700000000000002\t503\t12\n")
    assert statuses.tolist() == [200, 503]
    assert latencies.tolist() == [345, 12]
