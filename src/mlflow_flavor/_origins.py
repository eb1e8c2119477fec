"""Where a module comes from: Python itself, a distribution that is installed, or a file that only lies here."""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import distributions, packages_distributions
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

__all__ = ["OWN_PACKAGES", "as_user_writes_it", "is_local", "is_of_library", "local_places", "own_tops"]

OWN_PACKAGES = frozenset({"workflows", "workflows_otel", "mlflow_flavor"})


def local_places(names: Iterable[str]) -> dict[str, Path]:
    """Those of some modules (top-level names) that are of no distribution, with the file or folder that they are."""
    return {name: at for name, at, editable in _written_here(names) if not editable}


def own_tops(names: Iterable[str]) -> set[str]:
    """Those of some modules (top-level names) that their author works on: local ones, and editable installs."""
    return {name for name, _, _ in _written_here(names)}


def _written_here(names: Iterable[str]) -> Iterator[tuple[str, Path, bool]]:
    """The same, with the file or folder that each is, and whether a distribution has it (`pip install -e`)."""
    places = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib", "platstdlib")]
    tops = sorted(set(names) - sys.stdlib_module_names - OWN_PACKAGES)
    found = {name: place for name in tops if (place := _place_of(name)) is not None}
    outside = {name: at for name, at in found.items() if not any(at.is_relative_to(place) for place in places)}
    if not outside:
        return
    owned, editable = _installed(tuple(sys.path))
    for name, at in outside.items():
        is_editable = any(at.is_relative_to(place) for place in editable)
        if is_editable or name not in owned:
            yield name, at, is_editable


@cache
def _installed(path: tuple[str, ...]) -> tuple[frozenset[str], list[Path]]:
    """What is installed where Python looks for modules: names of those, and places of what is installed editable."""
    return frozenset(packages_distributions()), list(_editable_places())


def is_of_library(cls: type) -> bool:
    """Whether a class is of a distribution that is installed, and neither of Python's own nor of ours."""
    top = cls.__module__.partition(".")[0]
    if top in sys.stdlib_module_names or top in OWN_PACKAGES or _place_of(top) is None:
        return False
    return not local_places([top])


def is_local(module: str) -> bool:
    """Whether a module is of no distribution, but the program itself, or a file that lies here."""
    top = module.partition(".")[0]
    return top == "__main__" or top in local_places([top])


def as_user_writes_it(path: Path) -> str:
    """A path as a user would write it: from the working directory, if it is below that."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _place_of(module: str) -> Path | None:
    """The file of a module, or the folder of a package; a folder without `__init__.py` is one as well."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):  # of a module that is made while the program runs
        return None
    if spec is None:
        return None
    for folder in spec.submodule_search_locations or ():
        if Path(folder).is_dir():
            return Path(folder).resolve()
    return Path(spec.origin).resolve() if spec.has_location and spec.origin else None


def _editable_places() -> Iterator[Path]:
    """Where the distributions lie that are installed from where they are written (`pip install -e`)."""
    for found in distributions():
        origin = json.loads(found.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            yield Path(url2pathname(urlsplit(str(origin["url"])).path)).resolve()
