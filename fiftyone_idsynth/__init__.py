"""Training-ready image datasets inside FiftyOne: collected, generated, cleaned, labelled, scored, exported.

Every stage is a function of this package::

    import fiftyone_idsynth as ids

    ids.ingest("red_panda", "photos/")
    ids.score_quality("red_panda", task="detection")
    ids.deduplicate("red_panda")

``ids.stages()`` lists them. Importing the package is cheap: a stage is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_SUBMODULES = {module.name for module in iter_modules(__path__)}

if TYPE_CHECKING:
    from .annotation.agreement import agree as agree
    from .annotation.captions import caption as caption
    from .annotation.classes import classify as classify
    from .annotation.regions import detect as detect
    from .annotation.segments import segment as segment
    from .annotation.tags import tag as tag
    from .augmentation.augment import augment as augment
    from .augmentation.change_object_ratio import change_object_ratio as change_object_ratio
    from .augmentation.resize import resize as resize
    from .building.build import build as build
    from .collection.collect import collect as collect
    from .collection.ingest import ingest as ingest
    from .curation.duplicates import deduplicate as deduplicate
    from .curation.relevance import filter_irrelevant as filter_irrelevant
    from .curation.restore import restore as restore
    from .curation.splits import split as split
    from .enhancement.enhance import enhance as enhance
    from .enhancement.repair import repair as repair
    from .enhancement.upscale import upscale as upscale
    from .exporting.export import export as export
    from .generation.compose import compose as compose
    from .generation.generate import generate as generate
    from .generation.outpaint import outpaint as outpaint
    from .generation.recontextualize import recontextualize as recontextualize
    from .generation.restyle import restyle as restyle
    from .generation.train_lora import train_lora as train_lora
    from .learning.cascade import cascade as cascade
    from .learning.learn import learn as learn
    from .learning.predict import predict as predict
    from .learning.pull_from_label_studio import pull_from_label_studio as pull_from_label_studio
    from .learning.select_uncertain import select_uncertain as select_uncertain
    from .learning.send_to_label_studio import send_to_label_studio as send_to_label_studio
    from .learning.train import train as train
    from .learning.usefulness import measure_usefulness as measure_usefulness
    from .quality.measure_distribution import measure_distribution as measure_distribution
    from .quality.score import score_quality as score_quality
    from .recipe import run_recipe as run_recipe
    from .stage import stages as stages


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    if name == "run_recipe":
        return import_module(".recipe", __name__).run_recipe
    if name == "stages":
        return import_module(".stage", __name__).stages
    if name in _SUBMODULES:  # asked for by `from . import x` before the submodule is imported
        raise AttributeError(name)
    found = import_module(".stage", __name__).stages()
    if name in found:
        return found[name]
    raise AttributeError(f"module {__name__!r} has no stage {name!r}: it has {', '.join(found)}")


def __dir__() -> list[str]:
    return sorted([*globals(), "run_recipe", "stages", *import_module(".stage", __name__).stages()])
