"""Plain loops: each image is opened with Pillow, prepared, and put through transformers alone.

They do the same work as the stages, without batches, threads, database and records: how a script is written that
annotates a folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Settings:
    """What is asked of the models.

    Attributes:
        device: as torch names it
        dtype: precision of the weights, as torch names it
        threshold: least confidence of a tag
        new_tokens: length of a caption
        num_beams: how many captions are followed up at a time
        objects: what CLIPSeg looks for
        background: what is no object
    """

    device: str = "cpu"
    dtype: str = "float32"
    threshold: float = 0.35
    new_tokens: int = 20
    num_beams: int = 3
    objects: tuple[str, ...] = ("red panda",)
    background: str = "background"


Loop = Callable[[list[str]], list[Any]]


def tag(folder: Path, settings: Settings) -> Loop:
    """The tags of images with their confidences."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model, processor = _load(AutoModelForImageClassification, AutoImageProcessor, folder, settings)
    names = model.config.id2label

    def one(image: Any) -> dict[str, float]:
        inputs = processor(images=image, return_tensors="pt").to(settings.device, model.dtype)
        scores = model(**inputs).logits.sigmoid()[0].float().cpu()
        kept = torch.nonzero(scores >= settings.threshold).flatten().tolist()
        return {names[number]: scores[number].item() for number in kept}

    return _over(one)


def caption(folder: Path, settings: Settings) -> Loop:
    """The captions of images."""
    from transformers import BlipForConditionalGeneration, BlipProcessor

    model, processor = _load(BlipForConditionalGeneration, BlipProcessor, folder, settings)

    def one(image: Any) -> str:
        inputs = processor(images=image, return_tensors="pt").to(settings.device, model.dtype)
        tokens = model.generate(**inputs, max_new_tokens=settings.new_tokens, num_beams=settings.num_beams)
        return str(processor.decode(tokens[0], skip_special_tokens=True))

    return _over(one)


def detect(folder: Path, settings: Settings) -> Loop:
    """One box for each text: round the pixels over a threshold that are likelier that than the background.

    The image goes through the model once for each text, as in the examples of CLIPSeg's documentation.
    """
    import torch
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    model, processor = _load(CLIPSegForImageSegmentation, CLIPSegProcessor, folder, settings)
    texts = [*settings.objects, settings.background]

    def one(image: Any) -> dict[str, list[int]]:
        inputs = processor(text=texts, images=[image] * len(texts), padding=True, return_tensors="pt")
        inputs = inputs.to(settings.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        logits = model(**inputs).logits
        maps = torch.nn.functional.interpolate(logits[:, None].float(), size=image.size[::-1], mode="bilinear")
        maps = maps[:, 0].sigmoid().cpu()
        boxes = {}
        for text, probability in zip(settings.objects, maps, strict=False):
            rows, columns = torch.nonzero((probability > 0.5) & (probability > maps[-1]), as_tuple=True)
            if len(rows):
                corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                boxes[text] = [int(corner) for corner in corners]
        return boxes

    return _over(one)


def compare(folder: Path, settings: Settings) -> Loop:
    """The embeddings of images, as lists."""
    from transformers import CLIPModel, CLIPProcessor

    model, processor = _load(CLIPModel, CLIPProcessor, folder, settings)

    def one(image: Any) -> list[float]:
        inputs = processor(images=image, return_tensors="pt").to(settings.device, model.dtype)
        found = model.get_image_features(**inputs)
        found = getattr(found, "pooler_output", found)[0].float()
        return (found / found.norm()).cpu().tolist()  # type: ignore[no-any-return]

    return _over(one)


LOOPS: dict[str, Callable[[Path, Settings], Loop]] = {
    "tag": tag, "caption": caption, "detect": detect, "filter_irrelevant": compare,
}  # fmt: skip


def _load(model_class: Any, processor_class: Any, folder: Path, settings: Settings) -> tuple[Any, Any]:
    import torch

    model = model_class.from_pretrained(folder, dtype=getattr(torch, settings.dtype)).to(settings.device).eval()
    return model, processor_class.from_pretrained(folder)


def _over(one: Callable[[Any], Any]) -> Loop:
    def run(paths: list[str]) -> list[Any]:
        import torch
        from PIL import Image

        results = []
        with torch.no_grad():
            for path in paths:
                results.append(one(Image.open(path).convert("RGB")))
        return results

    return run
