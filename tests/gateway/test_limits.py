"""The shared table: exact over processes that hammer it, and over processes that die in the middle."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from slipway.errors import RateLimited, SetupError
from slipway.gateway import limits as limits_module
from slipway.gateway.limits import FILE_NAME, WAYS, LimitTable, refusal
from slipway.spec.deployment import RequestLimits

S = 10**9
NOON = 20_000 * 86_400 * S + 12 * 3600 * S

HAMMER = """
import sys
from pathlib import Path
from slipway.gateway.limits import LimitTable
from slipway.spec.deployment import RequestLimits

path, tries, burst, rows, names = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
table = LimitTable(Path(path))
limits = RequestLimits(requests_per_s=1e-6, burst=burst, rows_per_day=rows)
print("ready", flush=True)
sys.stdin.readline()
admitted = [0] * names
for number in range(tries):
    while (standing := table.take(f"key:{number % names}", "iris", limits, now_ns=%d, rows=3)).limit == 0:
        pass  # busy: a loaded machine may take the turn's holder off its core for long
    admitted[number % names] += standing.admitted
    if sys.argv[6:]:
        sys.stdout.write("+" if standing.admitted else "-")
        sys.stdout.flush()
print(*admitted, flush=True)
""".replace("%d", str(NOON))


def hammer(
    path: Path, *, tries: int, burst: int, rows: int, names: int = 1, tell: bool = False
) -> subprocess.Popen[str]:
    arguments = [str(value) for value in (path, tries, burst, rows, names)] + (["tell"] if tell else [])
    return subprocess.Popen(
        [sys.executable, "-c", HAMMER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def listen(process: subprocess.Popen[str], heard: list[str]) -> None:
    assert process.stdout is not None
    heard.append(process.stdout.read())


def start(processes: list[subprocess.Popen[str]]) -> None:
    """All at once, when each has said that it is there."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def admitted(
    table: LimitTable, limits: RequestLimits, *, name: str = "key:0", now_ns: int = NOON, most: int = 10_000
) -> int:
    for count in range(most):
        standing = table.take(name, "iris", limits, now_ns=now_ns)
        assert standing is not None
        if not standing.admitted:
            return count
    return most


def test_each_identity_and_deployment_has_its_own_limit(tmp_path: Path) -> None:
    table = LimitTable(tmp_path / FILE_NAME)
    limits = RequestLimits(requests_per_s=1, burst=3)
    assert admitted(table, limits, name="key:a") == 3
    assert admitted(table, limits, name="key:b") == 3
    standing = table.take("key:a", "other", limits, now_ns=NOON)
    assert standing is not None
    assert (standing.admitted, standing.remaining) == (True, 2)
    assert table.take("key:a", "iris", RequestLimits(), now_ns=NOON) is None
    table.close()


def test_what_was_used_survives_every_gateway(tmp_path: Path) -> None:
    limits = RequestLimits(requests_per_s=1, burst=5, rows_per_day=100)
    table = LimitTable(tmp_path / "limits" / FILE_NAME)
    for _ in range(5):
        table.take("key:0", "iris", limits, now_ns=NOON, rows=19)
    table.close()
    assert (tmp_path / "limits" / FILE_NAME).stat().st_mode & 0o777 == 0o600
    again = LimitTable(tmp_path / "limits" / FILE_NAME)
    standing = again.take("key:0", "iris", limits, now_ns=NOON + 10 * S, rows=6)
    assert standing is not None
    assert (standing.admitted, standing.kind, standing.remaining) == (False, "rows", 5)
    again.close()


def test_several_gateways_together_admit_exactly_the_limit(tmp_path: Path) -> None:
    """Four processes, 24,000 tries on three names at once: the sum is exact to the token, and to the row."""
    path = tmp_path / FILE_NAME
    processes = [hammer(path, tries=6000, burst=1234, rows=3 * 1000, names=3) for _ in range(4)]
    start(processes)
    sums = [0, 0, 0]
    for process in processes:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
        sums = [total + int(count) for total, count in zip(sums, said.split(), strict=True)]
    assert sums == [1000, 1000, 1000]
    table = LimitTable(path)
    assert admitted(table, RequestLimits(requests_per_s=1e-6, burst=1234)) == 234
    table.close()


def test_gateways_killed_in_the_middle_leave_every_count_whole(tmp_path: Path) -> None:
    """SIGKILL at 40 random moments of a tight loop. What a victim was told, and at most the one try that it was about
    to be told, is what the table has counted; nobody finds a lock held or a number torn."""
    path = tmp_path / FILE_NAME
    chance = random.Random(7)
    burst = 10**7
    told = victims = 0
    for _ in range(10):
        processes = [hammer(path, tries=10**6, burst=burst, rows=3 * burst, tell=True) for _ in range(4)]
        start(processes)
        heard: list[str] = []
        readers = [threading.Thread(target=listen, args=(process, heard)) for process in processes]
        for reader in readers:
            reader.start()
        for process in chance.sample(processes, len(processes)):
            time.sleep(chance.uniform(0.001, 0.03))  # the moment is the experiment, not a wait for something
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        for reader in readers:
            reader.join()
        assert set("".join(heard)) <= {"+"}
        told += sum(map(len, heard))
        victims += len(processes)
        table = LimitTable(path)
        limits = RequestLimits(requests_per_s=1e-6, burst=burst, rows_per_day=3 * burst)
        standing = table.take("key:0", "iris", limits, now_ns=NOON, requests=0)
        assert standing is not None
        counted = burst - standing.remaining
        assert told <= counted <= told + victims
        rows = table.take("key:0", "iris", RequestLimits(rows_per_day=3 * burst), now_ns=NOON, requests=0)
        assert rows is not None
        assert 3 * burst - rows.remaining == 3 * counted, "requests and rows were counted together"
        table.close()
    assert told > 100


DIE_AT_EACH_LINE = """
import os, signal, sys
from pathlib import Path
from slipway.gateway.limits import LimitTable, WAYS
from slipway.spec.deployment import RequestLimits

limits = RequestLimits(requests_per_s=1e-6, burst=100, rows_per_day=100)

def take(table, name, **count):
    return table.take(name, "iris", limits, now_ns=%d, **count)

def left(table, name):
    standing = take(table, name, requests=0)
    assert standing.limit, "the dead hold no lock"
    rows = table.take(name, "iris", RequestLimits(rows_per_day=100), now_ns=%d, requests=0)
    return standing.remaining, rows.remaining

def die_at(line, path, name):
    pid = os.fork()
    if not pid:
        seen = 0
        def trace(frame, event, argument):
            nonlocal seen
            if not frame.f_code.co_filename.endswith("gateway/limits.py"):
                return None
            seen += event == "line"
            if seen == line:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace
        table = LimitTable(path, buckets=1)
        sys.settrace(trace)
        take(table, name, rows=1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL

died = {}
for case, others in (("known", 3), ("newcomer", 3), ("newcomer in a full bucket", WAYS)):
    for line in range(1, 400):
        path = Path(sys.argv[1]) / f"{case} {line}"
        table = LimitTable(path, buckets=1)
        for number in range(others):
            for _ in range(2 + number):
                take(table, f"key:{number}", rows=1)
        name = "key:2" if case == "known" else "key:new"
        before = left(table, "key:2") if case == "known" else (100, 100)
        if not die_at(line, path, name):
            break
        died[case] = line
        assert left(table, name) in (before, (before[0] - 1, before[1] - 1)), (case, line)
        for number in range(others)[::-1]:
            if f"key:{number}" != name and not (others == WAYS and number < 2):
                assert left(table, f"key:{number}") == (98 - number, 98 - number), (case, line, number)
        table.close()
        path.unlink()
print(sorted(died.values()))
""".replace("%d", str(NOON))


def test_death_at_any_line_of_a_turn_leaves_the_state_before_or_after(tmp_path: Path) -> None:
    """A process kills itself with SIGKILL at the first line of a take, another at the second, and so on to the last:
    for an identity that the table knows, for a new one, and for one that has to push another out."""
    said = subprocess.run(
        [sys.executable, "-c", DIE_AT_EACH_LINE, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 0, said.stderr
    lines = [int(number) for number in said.stdout.strip("[]\n").split(",")]
    assert len(lines) == 3
    assert min(lines) > 20, "each turn was cut at every one of its lines"


def test_a_gateway_that_stands_still_in_its_turn_does_not_hang_the_others(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    table = LimitTable(path, buckets=1)
    limits = RequestLimits(requests_per_s=1, burst=3)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys\nfile = open(sys.argv[1], 'r+b')\nfcntl.lockf(file, fcntl.LOCK_EX, 1, 64)\n"
            "print('held', flush=True)\nsys.stdin.read()",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    standing = table.take("key:0", "iris", limits, now_ns=NOON)
    assert standing is not None
    assert not standing.admitted
    assert "busy" in refusal(standing, limits, deployment="iris").message
    holder.kill()
    holder.communicate()
    assert admitted(table, limits) == 3
    table.close()


def test_places_of_those_who_have_their_whole_limit_again_are_reused(tmp_path: Path) -> None:
    """One bucket: ten times as many come one after the other, and every one gets exactly his own."""
    table = LimitTable(tmp_path / FILE_NAME, buckets=1)
    limits = RequestLimits(requests_per_s=1, burst=4)
    for number in range(WAYS * 10):
        assert admitted(table, limits, name=f"key:{number}", now_ns=NOON + number * 4 * S) == 4
    table.close()


def test_where_too_many_meet_the_one_who_used_least_is_forgotten(tmp_path: Path) -> None:
    table = LimitTable(tmp_path / FILE_NAME, buckets=1)
    limits = RequestLimits(rows_per_day=1000)
    for number in range(WAYS):
        table.take(f"key:{number}", "iris", limits, now_ns=NOON, rows=100 + number)
    table.take("key:new", "iris", limits, now_ns=NOON, rows=500)
    left = {}
    for number in (WAYS - 1, 1):
        standing = table.take(f"key:{number}", "iris", limits, now_ns=NOON)
        assert standing is not None
        left[number] = standing.remaining
    assert left == {WAYS - 1: 1000 - 100 - WAYS + 1, 1: 899}
    standing = table.take("key:0", "iris", limits, now_ns=NOON)
    assert standing is not None
    assert standing.remaining == 1000
    table.close()


def test_a_file_of_rubbish_is_bounded_in_what_it_can_do(tmp_path: Path) -> None:
    """As after a power cut: whatever it says, nobody is locked out for longer than a burst, or gets more than one."""
    path = tmp_path / FILE_NAME
    LimitTable(path, buckets=1).close()
    limits = RequestLimits(requests_per_s=1, burst=4)
    chance = random.Random(3)
    for _ in range(50):
        path.write_bytes(chance.randbytes(path.stat().st_size))
        table = LimitTable(path, buckets=1)
        assert admitted(table, limits) <= 4
        assert admitted(table, limits, now_ns=NOON + 4 * S) == 4
        table.close()


def test_without_a_file_the_limits_are_those_of_this_process() -> None:
    table = LimitTable(None)
    assert admitted(table, RequestLimits(requests_per_s=1, burst=3)) == 3
    table.close()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "limits").write_text("a file")
    with pytest.raises(SetupError, match=r"the table of used limits .* cannot be made"):
        LimitTable(tmp_path / "limits" / FILE_NAME)


def test_a_full_disk_is_told_before_it_can_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(limits_module.os, "posix_fallocate", full)
    with pytest.raises(SetupError, match=r"No space left on device; limits need .* KiB of free space"):
        LimitTable(tmp_path / FILE_NAME)


def test_threads_of_one_gateway_take_turns(tmp_path: Path) -> None:
    table = LimitTable(tmp_path / FILE_NAME)
    limits = RequestLimits(requests_per_s=1e-6, burst=500)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(admitted(table, limits))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 500
    table.close()


def test_refusals_say_which_limit_and_when() -> None:
    limits = RequestLimits(requests_per_s=2, burst=3, rows_per_day=10)
    table = LimitTable(None)
    for _ in range(3):
        table.take("key:0", "iris", limits, now_ns=NOON, rows=1)
    standing = table.take("key:0", "iris", limits, now_ns=NOON)
    assert standing is not None
    error = refusal(standing, limits, deployment="iris")
    assert isinstance(error, RateLimited)
    assert error.message == "over the limit of 'iris' for you: 2 requests/s with bursts of 3"
    assert error.retry_after_s == 0.5
    standing = table.take("key:0", "iris", limits, now_ns=NOON, requests=0, rows=8)
    assert standing is not None
    assert "10 rows a day (UTC), of which 7 are left" in refusal(standing, limits, deployment="iris").message
    standing = table.take("key:0", "iris", limits, now_ns=NOON, requests=0, rows=11)
    assert standing is not None
    error = refusal(standing, limits, deployment="iris")
    assert "ever allows" in error.message
    assert error.retry_after_s is None
    table.close()
