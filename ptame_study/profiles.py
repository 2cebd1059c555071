"""Profiles: one commented YAML per scale of the study, with the parameters of every notebook."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open

from ptame_lib import files
from ptame_lib.explainers.names import TRAINED

from . import paths

DEFAULTS = "small"  # the profile of the notebooks' own defaults: it has no YAML
FULL = "embedded-full"  # the profile of the tables in results/reference
# a profile's lists of classifiers: those of all notebooks, those of 07 and 08, and those of 03 on real photographs
NAMED = ("classifiers", "multi_label", "photographs")
OF_MANY = ("03_compare", "11_black_box", "13_strata")  # notebooks about several classifiers, which can be run for one
OF_ONE = {  # notebooks about one classifier, and the profile's lists of those that it may be
    "02_train_ptame": ("classifiers",),
    "04_figures": ("classifiers",),
    "07_explainer_train": ("multi_label", "explainer_too"),
}
OF_A_SEED = {  # notebooks that can be run for another seed of the profile, and the parameters that they then get
    "02_train_ptame": lambda seed, _: {"seed": seed},
    "03_compare": lambda seed, measured: {
        "trained_seed": seed,
        "methods": [],
        "fewer": [],
        "explainer_too": [],
        "measured": RANKED.get(measured, "ranked"),
    },
}
RANKED = {"cheap": "matched", "matched": "matched"}  # the part that ranks, of what 03 measures for the first seed


def load_profile(name: str) -> dict[str, Any]:
    """A profile's YAML as a dict; one that ``extends`` another holds only what differs from it.

    Raises ValueError for an unknown name, a file that is not YAML or no profile, and profiles that extend each other.
    """
    return _load(name, [])


def _load(name: str, on_the_way: list[str]) -> dict[str, Any]:
    _known(name)
    if name in on_the_way:
        circle = " -> ".join([*on_the_way, name])
        raise ValueError(f"profiles extend each other in a circle, {circle}: take one 'extends' out")

    # read the file
    file = paths.profiles() / f"{name}.yaml"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{files.show(file)} is no YAML ({' '.join(str(error).split())}): correct it there") from error

    # put it over the profile it extends, of which only its own classifiers stay
    if isinstance(content, dict) and "extends" in content:
        changes = _shaped(file, content, whole=False)
        content = _merged(_load(changes.pop("extends"), [*on_the_way, name]), changes)
        every = [name for key in NAMED for name in content.get(key, [])]
        content["per_classifier"] = {name: v for name, v in content.get("per_classifier", {}).items() if name in every}
        if "explainer_too" in content and "explainer_too" not in changes:
            content["explainer_too"] = [name for name in content["explainer_too"] if name in every]
    return _shaped(file, content)


def _known(name: str) -> None:
    known = sorted(p.stem for p in paths.profiles().glob("*.yaml"))
    if name not in known:
        raise ValueError(f"unknown profile {name!r}: there are {', '.join(known)} in {files.show(paths.profiles())}")


def _shaped(file: Path, content: Any, whole: bool = True) -> dict[str, Any]:
    """The content of a profile, checked; with ``whole`` False parts may be missing."""
    show = files.show(file)
    notebooks = content.get("notebooks", None if whole else {}) if isinstance(content, dict) else None
    if not isinstance(notebooks, dict) or (whole and not (content.get("classifiers") or content.get("multi_label"))):
        raise ValueError(f"{show} must hold 'classifiers' and 'notebooks' (one mapping of parameters per notebook)")

    # lists of names
    for key in (*NAMED, "explainer_too", "shipped", "left_out"):
        names = content.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{show}: {key!r} must be a list of names, got {names!r}: write [{names}]")
    named: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for key in NAMED for name in content.get(key, [])):
        named.setdefault(paths.slug(name), []).append(name)
    for slug, alike in named.items():
        if len(alike) > 1:
            raise ValueError(f"{show}: {' and '.join(map(repr, alike))} would share files named {slug}: rename one")
    seeds = content.get("seeds", [0])
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ValueError(f"{show}: 'seeds' must be a list of whole numbers that are not negative, got {seeds!r}")
    processes = content.get("processes", 1)
    if type(processes) is not int or processes < 1:
        raise ValueError(f"{show}: 'processes' must be a whole number from 1, got {processes!r}")
    embedded = [name for name in content.get("classifiers", []) if name.startswith("embedded/")]
    for name in content.get("explainer_too", []) if whole else ():  # notebook 07 has single-label images of these only
        if name not in embedded:
            choices = f"choose from the embedded ones among its classifiers, {', '.join(embedded)}"
            raise ValueError(f"{show}: 'explainer_too' names {name!r}: {choices}")

    # mappings of parameters, empty or not
    sections = {"notebooks": notebooks}
    for key in ("per_classifier", "per_method"):
        per = content.get(key, {})
        sections |= {key: per, **(per if isinstance(per, dict) else {})}
    for key in ("per_method", "shipped"):
        for name in content.get(key) or ():
            if name not in TRAINED:
                raise ValueError(f"{show}: {key!r} names {name!r}: choose from {', '.join(TRAINED)}")
    for name, section in sections.items():
        rows = section or {}
        if not isinstance(rows, dict) or not all(isinstance(row or {}, dict) for row in rows.values()):
            raise ValueError(
                f"{show}: {name!r} must be a mapping of mappings, got {section!r}: see the comments in embedded.yaml"
            )
    return content


def _content(profile: str) -> dict[str, Any]:
    """`load_profile`, also of the notebooks' own defaults."""
    return _small() if profile == DEFAULTS else load_profile(profile)


def _small() -> dict[str, Any]:
    # imported here, since it takes seconds, and running a notebook does without
    from ptame_lib.classifiers.loading import EMBEDDED, EMBEDDED_MULTI

    return {"classifiers": EMBEDDED, "multi_label": EMBEDDED_MULTI, "notebooks": {}}


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``changes`` over ``base``, mappings entry by entry."""
    both = {
        key: _merged(base[key], value)
        for key, value in changes.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | changes | both


def parameters_for(
    profile: str, notebook: str, classifier: str | None = None, seed: int = 0, method: str | None = None
) -> dict[str, Any]:
    """What a profile sets for a notebook: ``notebooks``, and over it, by key, ``per_classifier`` and ``per_method``.

    Of 03's methods, those in the profile's list ``left_out`` are taken away.
    ``method``: the trained one that the notebook is run for, by default the profile's, or P-TAME.
    ``seed``: one of the profile's, 0 the notebook's own; with others 02 trains, and 03 measures what was trained with
    it alone, by the metrics of the ranks. Raises ValueError for a classifier that the profile does not have, and for a
    seed of a notebook without seeds.
    """
    content = _content(profile)
    parameters = {"profile": profile, **(content["notebooks"].get(notebook) or {})}
    for key in ("methods", "fewer") if content.get("left_out") and notebook == "03_compare" else ():
        parameters[key] = [name for name in parameters.get(key, []) if name not in content["left_out"]]
    too = [name for name in content.get("explainer_too", []) if classifier in (None, name)]
    if notebook == "03_compare" and too:
        parameters["explainer_too"] = too
    if seed and notebook not in OF_A_SEED:
        raise ValueError(f"notebook {notebook} has no seeds: only {', '.join(OF_A_SEED)} are run for several")

    # for all classifiers: a profile that extends another may have fewer
    if classifier is None:
        if notebook in OF_MANY and profile != DEFAULTS:
            every = parameters.get("classifiers", content["classifiers"])
            parameters["classifiers"] = [n for n in every if n in content["classifiers"]] or content["classifiers"]
        return parameters

    # for one of them
    known = [name for key in NAMED for name in content.get(key, [])]
    if classifier not in known:
        raise ValueError(f"unknown classifier {classifier!r} in profile {profile}: it has {', '.join(known)}")
    for key in ("per_classifier", "per_method"):
        name = classifier if key == "per_classifier" else method or parameters.get("method", "P-TAME")
        of_it = (content.get(key) or {}).get(name) or {}
        parameters = _merged(parameters, of_it.get(notebook) or {})
    parameters |= OF_A_SEED[notebook](seed, parameters.get("measured")) if seed else {}
    return parameters | ({"classifiers": [classifier]} if notebook in OF_MANY else {"classifier": classifier})


def own_parameters(profile: str, notebook: str, classifier: str) -> dict[str, Any]:
    """What a profile sets for a notebook and this classifier alone; nothing for a profile without a file."""
    known = (paths.profiles() / f"{profile}.yaml").is_file()
    of_it = (_content(profile).get("per_classifier") or {}).get(classifier) if known else None
    return (of_it or {}).get(notebook) or {}


def tail(profile: str, classifier: str) -> str:
    """The end of notebook 08's file names: the classifier where the profile has several multi-label ones."""
    known = (paths.profiles() / f"{profile}.yaml").is_file()  # a name of one's own has no file
    several = known and len(_content(profile).get("multi_label", [])) > 1
    return f"-{paths.slug(classifier)}" if several else ""


def next_classifier(profile: str, classifier: str) -> str | None:
    """The classifier after this one in the profile's list, after the last the first; None without another."""
    every = _content(profile).get("classifiers", [])
    after = [*every[every.index(classifier) + 1 :], *every] if classifier in every else every
    return after[0] if after and after[0] != classifier else None


def reference_of(trained: Sequence[str]) -> str:
    """The trained method that each other method is compared with: P-TAME, or the first where it is not among them."""
    return "P-TAME" if "P-TAME" in trained else trained[0]


def given(comparison: dict[str, Any]) -> list[str]:
    """Of notebook 03's ``trained`` methods the one whose explainers are named in ``source``, if they are.

    ``comparison``: a profile's parameters of that notebook. It is the one that others are compared with.
    """
    named = (comparison.get("source") or {}).get("explainers")
    return [reference_of(comparison.get("trained") or ["P-TAME"])] if named else []


def shipped(profile: str) -> dict[tuple[str, str], Path]:
    """The explainers of seed 0 that come with the repository, by (classifier, method): a profile does not train them.

    They are those of the methods in the profile's list ``shipped`` that the `FULL` profile trains with the same
    settings, if the file is there and says that it was trained so.
    """
    content, found = load_profile(profile), {}
    methods = content.get("shipped", [])
    full = load_profile(FULL)["classifiers"] if methods else []
    for name, method in product([name for name in content.get("classifiers", []) if name in full], methods):
        own, theirs = (parameters_for(each, "02_train_ptame", name, method=method) for each in (profile, FULL))
        file = paths.shipped(name, method)
        if own | {"profile": FULL} == theirs and file.is_file() and _was_trained(file, theirs):
            found[name, method] = file
    return found


def _was_trained(file: Path, parameters: dict[str, Any]) -> bool:
    """Whether an explainer's file says that it is of seed 0 and was trained with these parameters of notebook 02."""
    with safe_open(file, "numpy") as content:
        told = content.metadata()
    settings = json.loads(told["training"]) | {"classifier": told["classifier"], "seed": int(told["seed"])}
    settings["train_images"] = int(told["images"].split()[0])
    return all(settings[key] == value for key, value in ({"seed": 0} | parameters).items() if key in settings)


def check_known(profile: str) -> None:
    """Raise ValueError unless there is such a profile; reads nothing of it."""
    if profile != DEFAULTS:
        _known(profile)


def check_chosen(profile: str, notebook: str, parameters: dict[str, Any]) -> None:
    """Raise ValueError for a notebook about one classifier that nobody names."""
    if notebook not in OF_ONE or "classifier" in parameters or profile == DEFAULTS:
        return
    content = load_profile(profile)
    named = ", ".join(dict.fromkeys(name for key in OF_ONE[notebook] for name in content.get(key, [])))
    choices = f"add --classifier with one of {named}" if named else f"profile {profile} has none for it"
    raise ValueError(f"notebook {notebook} is about one classifier: {choices}")


def data_folder(profile: str) -> Path | None:
    """Where a profile's files are looked up by default: its YAML's ``data``, below the checkout, or None."""
    content = {} if profile == DEFAULTS else load_profile(profile)
    return files.root() / content["data"] if content.get("data") else None


def ancestry(name: str) -> list[str]:
    """A profile and those it extends. Raises as `load_profile`."""
    load_profile(name)
    base = yaml.safe_load((paths.profiles() / f"{name}.yaml").read_text()).get("extends")
    return [name, *(ancestry(base) if base else [])]


def use_data(profile: str, folder: str | None = None) -> None:
    """Have `paths.given` look in ``folder``, else in ``$PTAME_DATA``, else in the profile's data folder.

    Raises ValueError for a ``folder`` that does not exist.
    """
    if folder and not Path(folder).expanduser().is_dir():
        raise ValueError(f"no folder at DATA={folder}: check the path")
    if chosen := folder or os.environ.get("PTAME_DATA") or data_folder(profile):
        os.environ["PTAME_DATA"] = str(Path(chosen).expanduser().resolve())
