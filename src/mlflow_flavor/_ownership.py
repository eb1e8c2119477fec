"""Notices that another distribution was installed over Spanflow's `workflows` package, or Spanflow over another.

It imports nothing of `workflows`, which may be somebody else's. `mlflow_flavor` holds the same file: neither of the two
packages may import the other, and what both can import is what gets overwritten.
"""

from __future__ import annotations

import hashlib
import logging
from base64 import urlsafe_b64encode
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution

__all__ = ["explain_imports", "installed_over", "warn_if_mixed"]

RIVALS = ("llama-index-workflows", "workflows")
PROBE = "workflows/__init__.py"

logger = logging.getLogger("workflows.installation")


@contextmanager
def explain_imports() -> Generator[None]:
    """Say what is wrong, and the fix, where an import fails because `workflows` is not Spanflow's alone."""
    try:
        yield
    except ImportError as error:
        wrong = installed_over()
        if wrong is None:
            raise
        raise ImportError(wrong) from error


@cache
def warn_if_mixed() -> None:
    """Warn, once a process, where `workflows` is not Spanflow's alone though all that was imported is there."""
    wrong = installed_over()
    if wrong is not None:
        logger.warning("%s", wrong)


def installed_over() -> str | None:
    """What is wrong with the installed `workflows` package, and the fix; None where it is Spanflow's alone."""
    rival = next((d for name in RIVALS if (d := _installed(name)) is not None and _file_hash(d) is not None), None)
    ours = _installed("spanflow")
    if ours is None or (rival is None and not _was_changed(ours)):
        return None
    other = f"{rival.name} {rival.version}" if rival is not None else "another distribution"
    first, second = (other, "Spanflow") if rival is not None and not _was_changed(ours) else ("Spanflow", other)
    names = " ".join(dict.fromkeys(["spanflow", *([rival.name] if rival is not None else [])]))
    return (
        f"The installed package `workflows` is a mix: {second} was installed over {first}, so your workflows may not "
        f"run on Spanflow. Run `pip uninstall -y {names}`, then install spanflow again; where llama-index-core is "
        f"used, together with Spanflow's own llama-index-workflows (version 2.99.0+spanflow), which holds no module."
    )


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _file_hash(owner: Distribution) -> str | None:
    """The hash under which a distribution lists the package's first file; None if it does not list it."""
    for path in owner.files or ():
        if path.as_posix() == PROBE:
            return path.hash.value if path.hash else ""
    return None


def _was_changed(owner: Distribution) -> bool:
    """Whether the file on disk is no longer the one that this distribution brought."""
    expected = _file_hash(owner)
    if not expected:  # an editable install lists no modules
        return False
    try:
        with open(str(owner.locate_file(PROBE)), "rb") as file:
            found = hashlib.sha256(file.read()).digest()
    except OSError:
        return True
    return urlsafe_b64encode(found).decode().rstrip("=") != expected
