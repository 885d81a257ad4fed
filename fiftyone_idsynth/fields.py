"""Every sample field this project writes: its name, FiftyOne type, unit and meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import fiftyone as fo

REJECTED_TAG = "rejected"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Field:
    """One sample field.

    Attributes:
        path: its path; ``quality.blur`` is the field ``blur`` of the embedded document ``quality``
        type: ``float``, ``int``, ``str``, ``bool``, ``datetime``, ``dict``, ``list[str]``, ``document``, or the name of
            a FiftyOne label class
        help: what it means, with unit and range
    """

    path: str
    type: str
    help: str


_ALL = (
    # SOURCE
    Field("source", "document", "Where the image comes from"),
    Field("source.kind", "str", "web, api, local, generated, augmented, composed or enhanced"),
    Field("source.path", "str", "The original local file; never modified"),
    Field("source.sha256", "str", "SHA-256 of the original file's content, hexadecimal"),
    Field("source.converted", "str", "Why the image was converted into the media store, if it was"),
    Field("source.dataset", "str", "The FiftyOne dataset the sample was taken from"),
    Field("source.sample_id", "str", "The sample's id in that dataset"),
    Field("source.engine", "str", "The search engine or API that found the image"),
    Field("source.query", "str", "The query that found it"),
    Field("source.language", "str", "The query's language (ISO 639-1)"),
    Field("source.rank", "int", "Its position among the results, from 1"),
    Field("source.page_url", "str", "The page that shows it"),
    Field("source.image_url", "str", "The address of the file"),
    Field("source.title", "str", "Its title on that page"),
    Field("source.description", "str", "Its alt text or description on that page"),
    Field("source.keywords", "list[str]", "Its keywords on that page"),
    Field("source.creator", "str", "Who made it"),
    Field("source.license", "str", "Its licence, e.g. cc-by-4.0"),
    Field("source.license_url", "str", "The text of that licence"),
    Field("source.fetched_at", "datetime", "When it was downloaded"),
    Field("source.etag", "str", "The server's version of the file (ETag)"),
    Field("source.modified", "str", "When the file changed, as the server says (Last-Modified)"),
    # LINEAGE
    Field("lineage", "document", "What made the image and from what"),
    Field("lineage.parents", "list[str]", "Ids of the samples it was made from; relatives never cross a split"),
    Field("lineage.shared", "list[str]", "Ids of samples it was also made from that all splits may use: no relatives"),
    Field("lineage.stage", "str", "The stage that made it"),
    Field("lineage.run", "str", "The key of that run in the dataset's runs"),
    Field("lineage.key", "str", "Unique key of the made image within its dataset: making it again gives the same key"),
    Field("lineage.seed", "int", "The seed of every random choice in it"),
    Field("lineage.params", "dict", "What is needed to make it again"),
    # QUALITY
    Field("quality", "document", "Measured quality; see fiftyone_idsynth.quality.score"),
    Field("quality.score", "float", "Overall quality, 0 (unusable) to 1 (flawless)"),
    Field("quality.issues", "list[str]", "Names of the defects past their threshold"),
    Field("quality.suits", "list[str]", "The tasks whose threshold the image meets"),
    Field("quality.object_ratio", "float", "Area of the labelled objects / area of the image, 0 to 1"),
    # CURATE
    Field("dhash", "str", "Difference hash of the upright image (imagehash.dhash), 16 hexadecimal digits"),
    Field("duplicate_group", "str", "Exact and near duplicates of one image share this name"),
    Field("rejected", "document", "Why the sample is left out; it is never deleted and can be restored"),
    Field("rejected.reason", "str", "A short reason, e.g. near_duplicate"),
    Field("rejected.detail", "str", "What was found"),
    Field("rejected.stage", "str", "The stage that rejected it"),
    Field("rejected.other", "str", "Id of the sample it lost to, for duplicates"),
    Field("rejected.restored", "bool", "Somebody restored it: this stage never rejects it again"),
    # LABELS
    Field("ground_truth", "Detections", "Objects, exact (from a composition) or drawn by a person"),
    Field("classification", "Classification", "The class of the image"),
    Field("caption", "str", "One sentence that describes the image"),
    Field("training_text", "str", "The text a generator is trained with for this image"),
    Field("content_tags", "Classifications", "What the image shows, as tags with confidence"),
    Field("caption_by", "document", "Which model wrote the caption"),
    Field("caption_by.model", "str", "Its id or folder"),
    Field("caption_by.revision", "str", "The version of its weights"),
    Field("authors", "document", "Per field, a hash of what a model last wrote: what differs is a person's work"),
    # EXPORT
    Field("export_id", "int", "The image's id in COCO files: given once, never reused"),
    # ENGINE
    Field("stages", "document", "Per stage, the fingerprint of what it last did here: file, parameters, model"),
)

FIELDS: dict[str, Field] = {field.path: field for field in _ALL}


def register(*fields: Field) -> None:
    """Adds fields to the table, for modules that own a family of measures."""
    for field in fields:
        FIELDS[field.path] = field


def declare(dataset: fo.Dataset, *paths: str) -> None:
    """Makes sure that fields exist in a dataset, with their types and descriptions.

    Naming an embedded document declares every field of it in the table.

    Args:
        dataset: a dataset
        *paths: paths of the table, e.g. ``"quality"``, ``"dhash"``, ``"stages.ingest"``
    """
    schema = dataset.get_field_schema(flat=True)
    for path in paths:
        wanted = [f for p, f in FIELDS.items() if p == path or p.startswith(path + ".")]
        parent = path.rpartition(".")[0]
        if parent and parent not in schema:
            wanted.insert(0, FIELDS[parent])
        if not wanted or (parent and path not in FIELDS):
            wanted.append(Field(path, "str", FIELDS[parent].help if parent in FIELDS else ""))
        for field in wanted:
            if field.path not in schema:
                # A new document is made with all its fields at once: one by one they cost 10 ms of work each.
                inner = [f for f in wanted if f.path.rpartition(".")[0] == field.path]
                whole = {"fields": [_described(f) for f in inner]} if field.type == "document" and inner else {}
                dataset.add_sample_field(field.path, description=field.help, **_fiftyone_type(field.type), **whole)
                schema |= dict.fromkeys([field.path, *(f.path for f in inner)])


def declare_label(dataset: fo.Dataset, name: str, kind: str) -> None:
    """Makes sure that a label field exists in a dataset.

    Args:
        dataset: a dataset
        name: the field
        kind: the name of a FiftyOne label class, e.g. ``"Detections"``, or ``"str"``

    Raises:
        FieldError: there is such a field of another kind
    """
    from .errors import FieldError

    found = dataset.get_field(name)
    if found is None:
        help = FIELDS[name].help if name in FIELDS else ""
        dataset.add_sample_field(name, description=help, **_fiftyone_type(kind))
        return
    wanted = _fiftyone_type(kind)
    has = getattr(found, "document_type", type(found))
    if has is not wanted.get("embedded_doc_type", wanted["ftype"]):
        raise FieldError(f"the field {name!r} holds {has.__name__}, not {kind}: choose another field")


def document(values: dict[str, Any]) -> Any:
    """Makes an embedded document of the given values (``None`` values are left out)."""
    import fiftyone as fo

    return fo.DynamicEmbeddedDocument(**{k: v for k, v in values.items() if v is not None})


def stored(values: dict[str, Any]) -> dict[str, Any]:
    """An embedded document of the given values as it is stored (``None`` values are left out)."""
    return {"_cls": "DynamicEmbeddedDocument", **{k: v for k, v in values.items() if v is not None}}


def _described(field: Field) -> dict[str, Any]:
    """A field of a document, as FiftyOne is told of it."""
    return {"name": field.path.rpartition(".")[2], "description": field.help, **_fiftyone_type(field.type)}


def _fiftyone_type(name: str) -> dict[str, Any]:
    import fiftyone as fo

    simple: dict[str, Any] = {
        "float": fo.FloatField, "int": fo.IntField, "str": fo.StringField, "bool": fo.BooleanField,
        "datetime": fo.DateTimeField, "dict": fo.DictField,
    }  # fmt: skip
    if name in simple:
        return {"ftype": simple[name]}
    if name.startswith("list["):
        return {"ftype": fo.ListField, "subfield": simple[name[5:-1]]}
    kind = fo.DynamicEmbeddedDocument if name == "document" else getattr(fo, name)
    return {"ftype": fo.EmbeddedDocumentField, "embedded_doc_type": kind}
