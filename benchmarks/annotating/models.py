"""Models of published sizes with random weights, which cost what trained ones cost, and tiny ones for a quick try.

The weights that decide how much follows a forward pass are set so that they do as trained ones would: a tagger is sure
of 30 tags, no caption ends before its last token, and CLIPSeg marks a part of the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

Size = Literal["published", "tiny"]

TAGS_FOUND = 30

_TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}


def tagger(folder: Path, size: Size) -> None:
    """ViT-B/16 for 448 pixels and 10,861 tags, as the ViT tagger v3 of the WD14 family."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    side, tags = (448, 10_861) if size == "published" else (32, 50)
    names = {number: f"tag_{number}" for number in range(tags)}
    model = ViTForImageClassification(
        ViTConfig(
            **({} if size == "published" else {**_TINY, "patch_size": 8}),
            image_size=side,
            id2label=names,
            label2id={name: number for number, name in names.items()},
            problem_type="multi_label_classification",
        )
    )
    with torch.no_grad():
        model.classifier.bias.fill_(-10)
        model.classifier.bias[:TAGS_FOUND] = 10
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)


def captioner(folder: Path, size: Size) -> None:
    """BLIP base for 384 pixels."""
    import torch
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    published = size == "published"
    side = 384 if published else 32
    tokenizer = _bert_tokenizer(30_524 if published else 100)
    text = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"),
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if published:
        # The text decoder of a fresh configuration is smaller than the published one.
        text |= {"hidden_size": 768, "encoder_hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                 "num_attention_heads": 12}  # fmt: skip
        vision = {"image_size": side, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    else:
        text |= {**_TINY, "encoder_hidden_size": 32}
        vision = {**_TINY, "image_size": side, "patch_size": 8}
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():
        for bias in {model.text_decoder.cls.predictions.bias, model.text_decoder.cls.predictions.decoder.bias}:
            bias[tokenizer.sep_token_id] = -1e4
    model.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": side, "width": side})
    BlipProcessor(images, tokenizer).save_pretrained(folder)


def clipseg(folder: Path, size: Size) -> None:
    """CLIPSeg rd64 refined: ViT-B/16 for 352 pixels."""
    import torch
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPSegProcessor, ViTImageProcessor

    published = size == "published"
    side = 352 if published else 64
    tokenizer = _clip_tokenizer(49_408 if published else 0)
    text = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    if published:
        config = CLIPSegConfig(
            text_config=text, vision_config={"patch_size": 16}, reduce_dim=64, use_complex_transposed_convolution=True
        )
    else:
        config = CLIPSegConfig(
            text_config={**text, **_TINY},
            vision_config={**_TINY, "num_hidden_layers": 4, "image_size": side, "patch_size": 16},
            projection_dim=32, extract_layers=[1, 2, 3], reduce_dim=16, decoder_num_attention_heads=4,
            decoder_intermediate_size=37, use_complex_transposed_convolution=True,
        )  # fmt: skip
    model = CLIPSegForImageSegmentation(config)
    with torch.no_grad():
        # Logits on both sides of 0, of regions rather than of single pixels.
        model.decoder.transposed_convolution[-1].weight.mul_(50)
    model.save_pretrained(folder)
    images = ViTImageProcessor(size={"height": side, "width": side})
    CLIPSegProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)


def matcher(folder: Path, size: Size) -> None:
    """CLIP ViT-B/32 for 224 pixels."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    published = size == "published"
    side = 224 if published else 32
    tokenizer = _clip_tokenizer(49_408 if published else 0)
    text = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    if published:
        config = CLIPConfig(text_config=text)
    else:
        vision = {**_TINY, "image_size": side, "patch_size": 8}
        config = CLIPConfig(text_config={**text, **_TINY}, vision_config=vision, projection_dim=32)
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path, Size], None]] = {
    "tag": tagger, "caption": captioner, "detect": clipseg, "filter_irrelevant": matcher,
}  # fmt: skip


def build(kind: str, folder: Path, size: Size) -> Path:
    """Writes the model of a kind of work (a key of :data:`BUILDERS`), with the same weights each time.

    Returns:
        its folder
    """
    import torch

    torch.manual_seed(0)
    target = folder / f"{kind}-{size}"
    BUILDERS[kind](target, size)
    return target


def _bert_tokenizer(entries: int) -> Any:
    """BERT's tokenizer over letters, with names of no meaning up to a number of entries."""
    from transformers import BertTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *letters, *("##" + letter for letter in letters)]
    words = [*known, *(f"word{number}" for number in range(entries - len(known)))]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)}, model_max_length=512)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[DEC]"]})
    return tokenizer


def _clip_tokenizer(entries: int) -> Any:
    """CLIP's tokenizer over single bytes, with names of no meaning up to a number of entries."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    known = [*letters, *(letter + "</w>" for letter in letters)]
    # CLIP pools at the highest id: it must be that of the end.
    words = [f"word{number}" for number in range(entries - len(known) - 2)]
    names = [*known, *words, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={name: number for number, name in enumerate(names)}, merges=[], model_max_length=77)
