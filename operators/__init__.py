"""FiftyOne's entry to the plugin: registers one operator for every stage."""

from __future__ import annotations

import os
import sys
from typing import Any


def register(plugin: Any) -> None:
    """Called by FiftyOne, on every request of the App; so everything heavy waits until an operator runs."""
    try:
        import fiftyone_idsynth  # noqa: F401
    except ImportError:  # the plugin was downloaded, not installed: the package lies beside this folder
        sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

    from fiftyone_idsynth.stage import stages

    from .form import operator_class

    for stage in stages().values():
        plugin.register(operator_class(stage))
