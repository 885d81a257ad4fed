"""How a structured answer is asked for, and read."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ParameterError

if TYPE_CHECKING:
    from pydantic import BaseModel

    Answer = TypeVar("Answer", bound=BaseModel)

KINDS = ("json_schema", "json_object", "text")
"""How a structured answer is asked for, the surest first."""


def read_answer(text: str, answer: type[Answer]) -> Answer:
    """Finds the JSON object in a model's answer: after its reasoning, in a code block, or between words.

    Args:
        text: what the model said
        answer: the shape of the object

    Raises:
        ValueError: there is none of that shape, or several that differ; the message can be sent back to the model
    """
    import pydantic

    text = re.sub(r"^\s*<think>.*?</think>", "", text, flags=re.S)
    found: list[Answer] = []
    problem = "it has no JSON object"
    for candidate in _objects(text):
        try:
            read = answer.model_validate_json(candidate)
        except pydantic.ValidationError as error:
            problem = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'JSON'}: {e['msg']}" for e in error.errors()[:5])
            continue
        if read not in found:
            found.append(read)
    if len(found) > 1:
        raise ValueError("it has several JSON objects")
    if not found:
        raise ValueError(problem)
    return found[0]


def _objects(text: str, limit: int = 100) -> list[str]:
    """The outermost JSON objects within a text; at most ``limit`` braces are tried."""
    found: list[str] = []
    decoder = json.JSONDecoder()
    at = text.find("{")
    for _ in range(limit):
        if at < 0:
            break
        try:
            end = decoder.raw_decode(text, at)[1]
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found.append(text[at:end])
        at = text.find("{", end)
    return found


def instruction(answer: type[BaseModel]) -> str:
    schema = json.dumps(answer.model_json_schema(), ensure_ascii=False, separators=(",", ":"))
    return f"Answer with one JSON object that follows this JSON schema, and with nothing else:\n{schema}"


def as_kind(kind: str, messages: list[dict[str, Any]], answer: type[BaseModel]) -> dict[str, Any]:
    """The part of a request that depends on how a structured answer is asked for."""
    import openai

    if kind == "json_schema":
        name = re.sub(r"\W", "_", answer.__name__, flags=re.A)[:64]
        function = openai.pydantic_function_tool(answer, name=name)["function"]  # for its strict schema
        schema = {"name": name, "strict": True, "schema": function["parameters"]}
        return {"messages": messages, "response_format": {"type": kind, "json_schema": schema}}
    system = {"role": "system", "content": f"{messages[0]['content']}\n\n{instruction(answer)}"}
    request: dict[str, Any] = {"messages": [system, *messages[1:]]}
    if kind == "json_object":
        request["response_format"] = {"type": kind}
    return request


def data_url(image: bytes) -> str:
    types = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n", "png"), (b"GIF8", "gif"), (b"RIFF", "webp"))
    for magic, name in types:
        if image.startswith(magic) and (name != "webp" or image[8:12] == b"WEBP"):
            return f"data:image/{name};base64,{base64.b64encode(image).decode()}"
    raise ParameterError("images", image[:16], "is no JPEG, PNG, WebP or GIF file, which language models take")
