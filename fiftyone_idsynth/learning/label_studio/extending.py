"""Labelling configurations as the server has them: which labels they offer, and adding what is lacking."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from .errors import ProjectError

LABELS = ("Label", "Choice")


def labels_of(config_xml: str) -> dict[str, set[str]]:
    """The labels that each control of a labelling configuration offers: control -> labels.

    Raises:
        ProjectError: the configuration is no XML
    """
    return {
        str(control.get("name")): {label.get("alias") or str(label.get("value")) for label in control.iter(*LABELS)}
        for control in _controls(_read(config_xml))
    }


def lost_labels(used: Mapping[str, Mapping[str, int]], config_xml: str) -> list[str]:
    """The labels that are used and that a configuration does not offer.

    Args:
        used: control -> label -> how often it is used
        config_xml: the configuration
    """
    kept = labels_of(config_xml)
    return [
        f"{label!r} ({control}, {count} times)"
        for control, labels in used.items()
        for label, count in labels.items()
        if count > 0 and label not in kept.get(control, {label})
    ]


def extended(config_xml: str, wanted_xml: str) -> str:
    """Adds to a configuration the controls and labels that another has and it lacks; what is there stays as it is.

    Args:
        config_xml: the configuration of a project, which people may have changed by hand
        wanted_xml: the configuration that is needed

    Returns:
        the first one, letter by letter if it lacks nothing

    Raises:
        ProjectError: they do not go together: another object of that name, or a control of another kind
    """
    there, wanted = _read(config_xml), _read(wanted_xml)
    objects = {one.get("name"): one for one in there.iter() if one.get("value", "").startswith("$")}
    for one in wanted.iter():
        if one.get("value", "").startswith("$"):
            its = objects.get(one.get("name"))
            if its is None or (its.tag, its.get("value")) != (one.tag, one.get("value")):
                raise ProjectError(
                    "config",
                    f'the project shows no <{one.tag} name="{one.get("name")}" value="{one.get("value")}"/>, which is '
                    "what these tasks hold: name another project, or leave project out to have one made",
                )
    controls = {control.get("name"): control for control in _controls(there)}
    changed = False
    for control in _controls(wanted):
        its = controls.get(control.get("name"))
        if its is None:
            there.append(copy.deepcopy(control))
            changed = True
        elif its.tag != control.tag:
            raise ProjectError(
                "config",
                f"the control {control.get('name')!r} of the project is <{its.tag}>, where <{control.tag}> is needed: "
                "name another project or label_field",
            )
        else:
            changed |= _add_labels(its, control)
    if not changed:
        return config_xml
    from lxml import etree

    text: str = etree.tostring(there, encoding="unicode", pretty_print=True)
    return text


def _add_labels(control: Any, wanted: Any) -> bool:
    """Adds the labels that a control lacks, where they stand in the other one: inside of the same label, if nested."""
    changed = False
    for label in wanted:
        if label.tag not in LABELS:
            continue
        same = next((one for one in control if one.tag == label.tag and one.get("value") == label.get("value")), None)
        if same is None:
            control.append(copy.deepcopy(label))
            changed = True
        else:
            changed |= _add_labels(same, label)
    return changed


def _controls(root: Any) -> list[Any]:
    return [one for one in root.iter() if isinstance(one.tag, str) and one.get("name") and one.get("toName")]


def _read(config_xml: str) -> Any:
    from lxml import etree

    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True)
        return etree.fromstring(config_xml.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise ProjectError("config", f"the labelling configuration is no XML: {error}") from None
