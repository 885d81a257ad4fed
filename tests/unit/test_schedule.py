"""Every host gets no more than it can bear, and one that is busy does not hold up the others."""

from __future__ import annotations

import threading
import time

from fiftyone_idsynth.collection.web.schedule import Schedule


def test_a_host_has_a_limit_and_others_go_on() -> None:
    schedule = Schedule(max_per_host=2, rate=0, total=32)
    for job in ("a1", "a2", "a3"):
        schedule.put("a", job)
    schedule.put("b", "b1")
    assert sorted(schedule.take()[1] for _ in range(3)) == ["a1", "a2", "b1"]
    taken: list[str] = []
    waiting = threading.Thread(target=lambda: taken.append(schedule.take()[1]))
    waiting.start()
    time.sleep(0.1)
    assert taken == []
    schedule.done("a")
    waiting.join(5)
    assert taken == ["a3"]


def test_jobs_of_a_host_start_at_its_rate() -> None:
    schedule = Schedule(max_per_host=10, rate=20, total=32)
    for number in range(6):
        schedule.put("a", number)
    started = time.monotonic()
    assert [schedule.take()[1] for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    assert time.monotonic() - started >= 0.24


def test_a_pause_and_a_job_for_later_are_waited_for() -> None:
    schedule = Schedule(max_per_host=10, rate=0, total=32)
    schedule.pause("a", time.monotonic() + 0.3)
    schedule.put("a", "paused")
    schedule.put("b", "later", not_before=time.monotonic() + 0.2)
    schedule.put("c", "now")
    started = time.monotonic()
    order = [schedule.take()[1] for _ in range(3)]
    assert order == ["now", "later", "paused"]
    assert time.monotonic() - started >= 0.29


def test_closing_ends_everybody_who_waits() -> None:
    schedule = Schedule(max_per_host=1, rate=0, total=32)
    ended: list[object] = []
    threads = [threading.Thread(target=lambda: ended.append(schedule.take())) for _ in range(4)]
    for thread in threads:
        thread.start()
    schedule.close()
    for thread in threads:
        thread.join(5)
    assert ended == [None] * 4
