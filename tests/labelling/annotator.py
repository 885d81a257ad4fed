"""Simulated people who label in Label Studio: each is a user of the server and answers through its API."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import requests

from fiftyone_idsynth.learning.label_studio.client import Server
from fiftyone_idsynth.learning.label_studio.keys import key_of
from tests.label_studio_server import LabelStudioServer

Box = tuple[str, float, float, float, float]
"""Label, left, top, width, height: relative to the image."""

Result = list[dict[str, Any]]


class Annotator:
    """One who labels what they know, wrong in a given share of cases.

    Whether an answer is wrong, and how, depends on the seed and the sample alone: give people different seeds.

    Args:
        server: the server
        token (None): their token; by default the owner's
        wrong (0.0): the share of wrong answers
        seed (0): of wrong answers

    Attributes:
        api: the server as this person sees it
        id: their number at the server
        email: their address
    """

    def __init__(self, server: LabelStudioServer, token: str | None = None, *, wrong: float = 0.0, seed: int = 0):
        self.api = Server(server.url, token or server.token)
        found = self.api.whoami()
        self.id, self.email = int(found["id"]), str(found["email"])
        self._wrong, self._seed = wrong, seed

    @classmethod
    def sign_up(cls, server: LabelStudioServer, name: str = "somebody", **options: Any) -> Annotator:
        """A new user: they follow the invitation and fill in the form, as people do."""
        headers = {"Authorization": f"Token {server.token}"}
        link = requests.get(f"{server.url}/api/invite", headers=headers, timeout=30).json()["invite_url"]
        session = requests.Session()
        session.get(server.url + link, timeout=30)
        form = {
            "email": f"{name}-{uuid.uuid4().hex[:8]}@example.com", "password": "somebody-pass-1",
            "allow_newsletters": "false", "how_find_us": "Other", "csrfmiddlewaretoken": session.cookies["csrftoken"],
        }  # fmt: skip
        referer = {"Referer": server.url}
        session.post(server.url + link, headers=referer, data=form, allow_redirects=False, timeout=30)
        headers = {"X-CSRFToken": session.cookies["csrftoken"], **referer}
        made = session.post(f"{server.url}/api/token/", headers=headers, timeout=30)
        made.raise_for_status()
        return cls(server, made.json()["token"], **options)

    def classify(
        self, project: int, truth: Mapping[str, str], classes: Sequence[str], *, control: str = "ground_truth",
        limit: int | None = None,
    ) -> int:  # fmt: skip
        """Answers with the classes of images.

        Args:
            project: the project's id
            truth: sample id -> its class
            classes: the classes that a wrong answer is taken from
            control ("ground_truth"): the control's name
            limit (None): how many tasks to answer, in the order of their ids

        Returns:
            how many were answered
        """

        def result(sample_id: str) -> Result:
            name = truth[sample_id]
            if (luck := self._luck(sample_id)) is not None:
                name = luck.choice([other for other in classes if other != name])
            return [choice(control, name)]

        return self.answer(project, result, limit=limit)

    def box(
        self, project: int, truth: Mapping[str, Sequence[Box]], classes: Sequence[str], *,
        control: str = "ground_truth", limit: int | None = None,
    ) -> int:  # fmt: skip
        """Answers with boxes; a wrong answer names the objects wrongly. See :meth:`classify`."""

        def result(sample_id: str) -> Result:
            boxes = [list(one) for one in truth[sample_id]]
            if (luck := self._luck(sample_id)) is not None:
                for one in boxes:
                    one[0] = luck.choice([other for other in classes if other != one[0]])
            return [rectangle(control, *one) for one in boxes]

        return self.answer(project, result, limit=limit)

    def answer(self, project: int, result: Callable[[str], Result | None], *, limit: int | None = None) -> int:
        """Answers the tasks that this person has not answered yet.

        Args:
            project: the project's id
            result: sample id -> results of Label Studio; ``None`` skips the task
            limit (None): how many tasks

        Returns:
            how many were answered or skipped
        """
        count = 0
        for task in list(self.api.tasks(project)):
            key = key_of(task)
            if key is None or any(one["completed_by"] == self.id for one in task["annotations"]):
                continue
            if limit is not None and count >= limit:
                break
            found = result(key.sample_id)
            if found is None:
                self.skip(task["id"])
            else:
                self.submit(task["id"], found)
            count += 1
        return count

    def submit(self, task: int, result: Result) -> int:
        """Submits an answer and returns its id."""
        return int(self.api.post(f"/api/tasks/{task}/annotations", {"result": result, "lead_time": 1.0})["id"])

    def skip(self, task: int) -> int:
        """Skips a task."""
        return int(self.api.post(f"/api/tasks/{task}/annotations", {"result": [], "was_cancelled": True})["id"])

    def draft(self, task: int, result: Result) -> None:
        """Begins an answer without submitting it."""
        self.api.post(f"/api/tasks/{task}/drafts", {"result": result, "lead_time": 1.0})

    def edit(self, answer: int, result: Result) -> None:
        """Changes a submitted answer."""
        self.api.patch(f"/api/annotations/{answer}", {"result": result})

    def remove(self, answer: int) -> None:
        """Deletes a submitted answer."""
        self.api.delete(f"/api/annotations/{answer}")

    def _luck(self, sample_id: str) -> random.Random | None:
        """Where an answer is to be wrong, what decides how."""
        digest = hashlib.blake2b(f"{self._seed}/{sample_id}".encode(), digest_size=8).digest()
        luck = random.Random(digest)
        return luck if luck.random() < self._wrong else None


def choice(control: str, label: str) -> dict[str, Any]:
    """The class of an image, as the editor submits it."""
    return {
        "id": uuid.uuid4().hex[:10], "from_name": control, "to_name": "image", "type": "choices", "origin": "manual",
        "value": {"choices": [label]},
    }  # fmt: skip


def rectangle(
    control: str,
    label: str,
    left: float,
    top: float,
    width: float,
    height: float,
    *,
    size: tuple[int, int] = (640, 480),
) -> dict[str, Any]:  # fmt: skip
    """A box, as the editor submits it.

    Args:
        control: the control's name
        label: the class
        left, top, width, height: relative to the image
        size ((640, 480)): width and height of the image as it is displayed, in pixels
    """
    value = {"x": left * 100, "y": top * 100, "width": width * 100, "height": height * 100, "rotation": 0}
    return {
        "id": uuid.uuid4().hex[:10], "from_name": control, "to_name": "image", "type": "rectanglelabels",
        "origin": "manual", "original_width": size[0], "original_height": size[1], "image_rotation": 0,
        "value": {**value, "rectanglelabels": [label]},
    }  # fmt: skip
