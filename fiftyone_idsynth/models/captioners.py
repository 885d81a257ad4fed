"""Captions by image-text-to-text models, local ones and those behind an OpenAI-compatible address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .found import Found
from .options import Options
from .pretrained import Pretrained
from .roles import Captioner, Model

if TYPE_CHECKING:
    from ..llm import LanguageModel

INSTRUCTION = "Describe this image in one sentence."
"""What a model that is spoken to is asked where no prompt is given."""

FLORENCE_TASKS = ("<CAPTION>", "<DETAILED_CAPTION>", "<MORE_DETAILED_CAPTION>")


def fits(found: Found, role: type[Model]) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as FAMILIES

    if role is not Captioner or found.scheme:
        return role is Captioner and found.scheme == "openai"
    # The types of BLIP are shared with models that answer questions or compare texts.
    others = [a for a in found.architectures if a.endswith(("ImageTextRetrieval", "QuestionAnswering"))]
    return found.model_type in FAMILIES and not others


def load(found: Found, options: Options, role: type[Model]) -> Model:
    if found.scheme == "openai":
        from ..llm import LanguageModel

        return ServedCaptioner(LanguageModel(found.name.partition(":")[2]))
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from .backends import load_pretrained, load_processor

    model, processor = (
        load_pretrained(AutoModelForImageTextToText, found, options),
        load_processor(AutoProcessor, found),
    )
    if found.model_type in _OF_FAMILIES:
        return _OF_FAMILIES[found.model_type](model, processor, found)
    made = ChatCaptioner if getattr(processor, "chat_template", None) else TransformersCaptioner
    return made(model, processor, found)


class TransformersCaptioner(Pretrained, Captioner):
    """BLIP, BLIP-2, GIT and other models that continue a text from a picture.

    The prompt is the beginning of the caption, e.g. ``"a photo of"``, or what the model was trained with, e.g.
    ``"Question: what is this? Answer:"`` for BLIP-2. Whether the caption repeats it is up to the model: BLIP does.
    """

    def caption(
        self, pictures: Sequence[np.ndarray], prompt: str = "", max_new_tokens: int = 50, num_beams: int = 3
    ) -> list[str]:
        """Describes pictures.

        Args:
            pictures: RGB, uint8, of any sizes
            prompt (""): what the model is given besides the picture
            max_new_tokens (50): the longest caption, in tokens
            num_beams (3): how many captions are followed up at a time; 1 is the fastest

        Returns:
            a caption for each picture, without the marks of the model
        """
        import torch

        if not len(pictures):
            return []
        inputs = self._inputs(_pil_images(pictures), prompt.strip()).to(self.device, self.model.dtype)
        with torch.inference_mode():
            tokens = self.model.generate(
                **inputs, max_new_tokens=max_new_tokens, num_beams=num_beams, do_sample=False, **self._generation()
            )
        return [_tidy(text) for text in self._texts(tokens, inputs)]

    def _inputs(self, images: list[Any], prompt: str) -> Any:
        if prompt:
            return self.processor(images=images, text=[prompt] * len(images), return_tensors="pt")
        return self.processor(images=images, return_tensors="pt")

    def _generation(self) -> dict[str, Any]:
        """What ``generate`` is given besides, anew each time."""
        return {}

    def _texts(self, tokens: Any, inputs: Any) -> list[str]:
        return list(self.processor.batch_decode(tokens, skip_special_tokens=True))


class BlipCaptioner(TransformersCaptioner):
    """BLIP, whose beams share what they know of their picture."""

    def _generation(self) -> dict[str, Any]:
        from transformers import DynamicCache, EncoderDecoderCache

        class PictureCache(DynamicCache):
            """Keys and values of the picture. They are the same for all of its beams, so that they need no sorting when
            beams change places; to copy them for each token took a tenth of the time."""

            def reorder_cache(self, beam_idx: Any) -> None:
                pass

        config = self.model.text_decoder.config
        return {"past_key_values": EncoderDecoderCache(DynamicCache(config=config), PictureCache(config=config))}


class Blip2Captioner(TransformersCaptioner):
    """BLIP-2 and InstructBLIP, whose text begins with the places of the picture."""

    def _inputs(self, images: list[Any], prompt: str) -> Any:
        # The processor puts those places before a text only; an empty one gives the caption without a prompt.
        return self.processor(images=images, text=[prompt] * len(images), return_tensors="pt")

    def _texts(self, tokens: Any, inputs: Any) -> list[str]:
        if not self.model.config.text_config.is_encoder_decoder:
            tokens = _new_tokens(tokens, inputs)
        return super()._texts(tokens, inputs)


class Florence2Captioner(TransformersCaptioner):
    """Florence-2, which is told what to do by a task: ``<CAPTION>`` or, for longer ones, ``<DETAILED_CAPTION>`` and
    ``<MORE_DETAILED_CAPTION>``. These are its prompts."""

    def _inputs(self, images: list[Any], prompt: str) -> Any:
        task = prompt or FLORENCE_TASKS[0]
        if task not in FLORENCE_TASKS:
            from ..errors import ParameterError

            raise ParameterError("prompt", prompt, f"Florence-2 takes one of {', '.join(FLORENCE_TASKS)}")
        return self.processor(images=images, text=[task] * len(images), return_tensors="pt")


class ChatCaptioner(TransformersCaptioner):
    """Models that are spoken to (LLaVA, Qwen-VL, SmolVLM, Gemma, ...): the prompt is what the user says.

    Without one they are asked for :data:`INSTRUCTION`.
    """

    def _inputs(self, images: list[Any], prompt: str) -> Any:
        said = {"type": "text", "text": prompt or INSTRUCTION}
        talks = [[{"role": "user", "content": [{"type": "image", "image": image}, said]}] for image in images]
        # Answers must begin where the question ends, in every row of a batch.
        self.processor.tokenizer.padding_side = "left"
        if self.processor.tokenizer.pad_token is None:
            self.processor.tokenizer.pad_token = self.processor.tokenizer.eos_token
        return self.processor.apply_chat_template(
            talks,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )

    def _texts(self, tokens: Any, inputs: Any) -> list[str]:
        return super()._texts(_new_tokens(tokens, inputs), inputs)


class ServedCaptioner(Captioner):
    """A vision model behind an OpenAI-compatible address, called ``"openai:MODEL"``.

    Each picture is one question; beams are the server's business.

    Args:
        server: the language model, which keeps the budget and repeats failed requests
        max_side (1024): pictures are sent no larger than this, in pixels
    """

    def __init__(self, server: LanguageModel, max_side: int = 1024):
        self.server = server
        self.max_side = max_side
        self.name, self.revision, self.device = f"openai:{server.model}", "", server.base_url

    @property
    def about(self) -> str:
        return f"{self.server.model} at {self.server.base_url}"

    def caption(
        self, pictures: Sequence[np.ndarray], prompt: str = "", max_new_tokens: int = 50, num_beams: int = 3
    ) -> list[str]:
        """Describes pictures.

        Args:
            pictures: RGB, uint8, of any sizes
            prompt (""): what the model is asked besides, e.g. ``"Name the colours."``
            max_new_tokens (50): the longest caption, in tokens; the model is told so in words
            num_beams (3): without effect

        Returns:
            a caption for each picture

        Raises:
            LanguageModelError: the server gives no usable answer
        """
        from pydantic import BaseModel, Field

        class Caption(BaseModel):
            caption: str = Field(description="what the image shows, as plain text", min_length=1)

        words = max(1, max_new_tokens * 3 // 4)
        instructions = (
            "You write captions for images that train other models. Say what is to be seen and nothing else: no "
            f"guesses about what is outside the image, no introduction. Use at most {words} words."
        )
        return [
            _tidy(self.server.ask(instructions, prompt.strip() or INSTRUCTION, Caption, images=[self._file(p)]).caption)
            for p in pictures
        ]

    def _file(self, picture: np.ndarray) -> bytes:
        import cv2

        from ..media import encode_image

        height, width = picture.shape[:2]
        scale = min(1.0, self.max_side / max(height, width))
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return encode_image(picture, ".jpg", 90)


_OF_FAMILIES: dict[str, type[TransformersCaptioner]] = {
    "blip": BlipCaptioner,
    "florence2": Florence2Captioner,
    "blip-2": Blip2Captioner,
    "instructblip": Blip2Captioner,
}


def _new_tokens(tokens: Any, inputs: Any) -> Any:
    """What was written after the question."""
    return tokens[:, inputs["input_ids"].shape[1] :]


def _pil_images(pictures: Sequence[np.ndarray]) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(picture) for picture in pictures]


def _tidy(text: str) -> str:
    return " ".join(text.split())
