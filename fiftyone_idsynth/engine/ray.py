"""Runs the same workers as actors on a Ray cluster; every node must see the image files under the same paths."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from ..errors import MissingExtraError
from .worker import Outcome, Worker, run_batch


def process(
    worker: Worker, batches: Iterable[Sequence[Any]], *, num_workers: int | None = None
) -> Generator[list[Outcome], None, None]:
    """Puts batches through actors that hold the worker, and yields the outcomes in order.

    Connects to the cluster that ``RAY_ADDRESS`` names, or starts one on this machine.

    Args:
        worker: the worker
        batches: batches of items or tasks
        num_workers (None): actors; by default one per processor of the cluster
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", extra="ray", why="engine='ray'") from error

    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    count = num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    actor_class = ray.remote(_Actor)
    actors = [actor_class.options(num_cpus=1 if num_workers is None else 0).remote(worker) for _ in range(count)]
    pending: deque[Any] = deque()
    try:
        for number, batch in enumerate(batches):
            pending.append(actors[number % count].run.remote(list(batch)))
            if len(pending) > 2 * count:
                yield ray.get(pending.popleft())
        while pending:
            yield ray.get(pending.popleft())
    finally:
        for actor in actors:
            ray.kill(actor)
        if started:
            ray.shutdown()


class _Actor:
    def __init__(self, worker: Worker):
        self._worker = worker
        worker.setup()

    def run(self, batch: list[Any]) -> list[Outcome]:
        return run_batch(self._worker, batch)
