"""`StateCheckpoint`: the committed state at one moment, and the JSON Patch (RFC 6902) from one moment to another."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, cast

from pydantic import BaseModel

from workflows.context.serializers import JsonSerializer
from workflows.context.state_serde import encode_state_tree
from workflows.events import DictLikeModel

__all__ = ["StateCheckpoint", "apply_state_patch"]

Operation = dict[str, Any]


class StateCheckpoint:
    """The state as it was committed, by reference: taking one costs nothing, later writes leave it alone.

    What is changed in place, without `set` or `edit_state`, changes here as well.
    """

    def __init__(self, state: BaseModel, serializer: JsonSerializer) -> None:
        self._state = state
        self._serializer = serializer

    @property
    def state(self) -> BaseModel:
        """The state itself; change a copy."""
        return self._state

    def to_dict(self) -> dict[str, Any]:
        """The state as one tree of JSON values; `InMemoryStateStore.from_dict` reads it."""
        return encode_state_tree(self._state, self._serializer)

    def diff(self, since: StateCheckpoint) -> list[Operation]:
        """The patch from an earlier checkpoint to this one, for `apply_state_patch(since.to_dict(), patch)`.

        Parts that both share cost nothing, however large they are.
        """
        found: list[Operation] = []
        both = (since._state, self._state)
        if type(both[0]) is type(both[1]) and isinstance(both[0], DictLikeModel) and not type(both[0]).model_fields:
            old, new = (cast("DictLikeModel", s).to_dict() for s in both)
            _Diff(self._serializer, found).dictionaries(old, new, "/state_data/_data")
        else:
            _Diff(None, found).values(since.to_dict(), self.to_dict(), "")
        return found


class _Diff:
    """Collects the operations that lead from one value to another; values are live, or encoded already."""

    def __init__(self, serializer: JsonSerializer | None, found: list[Operation]) -> None:
        self.serializer = serializer
        self.found = found

    def values(self, old: Any, new: Any, path: str) -> None:
        if old is new:
            return
        kinds = {old.__class__, new.__class__}
        if kinds == {dict} and self._is_plain(old) and self._is_plain(new):
            self.dictionaries(old, new, path)
        elif kinds == {list}:
            self._lists(old, new, path)
        elif self.serializer is not None:
            _Diff(None, self.found).values(self._encoded(old), self._encoded(new), path)
        elif len(kinds) > 1 or old != new:
            self.found.append({"op": "replace", "path": path, "value": new})

    def dictionaries(self, old: dict[str, Any], new: dict[str, Any], path: str) -> None:
        self.found.extend({"op": "remove", "path": _below(path, key)} for key in old if key not in new)
        for key, value in new.items():
            if key in old:
                self.values(old[key], value, _below(path, key))
            else:
                self.found.append({"op": "add", "path": _below(path, key), "value": self._encoded(value)})

    def _lists(self, old: list[Any], new: list[Any], path: str) -> None:
        start = _common(zip(old, new, strict=False), self._same)
        rest = min(len(old), len(new)) - start
        end = _common(zip(reversed(old[-rest:]), reversed(new[-rest:]), strict=True), self._same) if rest else 0
        old_middle, new_middle = old[start : len(old) - end], new[start : len(new) - end]
        for n, (before, after) in enumerate(zip(old_middle, new_middle, strict=False)):
            self.values(before, after, f"{path}/{start + n}")
        for n in reversed(range(len(new_middle), len(old_middle))):
            self.found.append({"op": "remove", "path": f"{path}/{start + n}"})
        for n in range(len(old_middle), len(new_middle)):
            self.found.append({"op": "add", "path": f"{path}/{start + n}", "value": self._encoded(new_middle[n])})

    def _same(self, old: Any, new: Any) -> bool:
        if old is new:
            return True
        different: list[Operation] = []
        _Diff(self.serializer, different).values(old, new, "")
        return not different

    def _encoded(self, value: Any) -> Any:
        return value if self.serializer is None else self.serializer.serialize_value(value)

    def _is_plain(self, value: dict[Any, Any]) -> bool:
        """Whether a dictionary is encoded as itself, key by key."""
        names: Any = dict.fromkeys(value)
        return self.serializer is None or self.serializer.serialize_value(names) == names


def apply_state_patch(state: Mapping[str, Any], patch: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A state tree (`StateCheckpoint.to_dict()`) with a patch applied; the given one is left alone.

    Raises:
        ValueError: If an operation is none of add, remove and replace, or points to nothing.
    """
    root: dict[str, Any] = {"": copy.deepcopy(dict(state))}
    for operation in patch:
        op, path = operation.get("op"), operation.get("path")
        try:
            _apply(root, op, str(path), copy.deepcopy(operation.get("value")))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"The state patch cannot {op} {path!r}: {error}. Apply it to the checkpoint that it was made from."
            ) from error
    return root[""]


def _apply(root: dict[str, Any], op: Any, path: str, value: Any) -> None:
    keys = [k.replace("~1", "/").replace("~0", "~") for k in path.split("/")]
    parent: Any = root
    for key in keys[:-1]:
        parent = parent[int(key) if parent.__class__ is list else key]
    last: Any = keys[-1]
    in_list = parent.__class__ is list
    if in_list:
        last = len(parent) if last == "-" else int(last)
        if not 0 <= last < len(parent) + (op == "add"):
            raise IndexError(f"the list has {len(parent)} items")
    match op:
        case "add" if in_list:
            parent.insert(last, value)
        case "add" | "replace":
            parent[last] = value
        case "remove":
            del parent[last]
        case _:
            raise ValueError("only add, remove and replace are known")


def _below(path: str, key: str) -> str:
    return f"{path}/{key.replace('~', '~0').replace('/', '~1')}"


def _common(pairs: Iterable[tuple[Any, Any]], same: Any) -> int:
    count = 0
    for old, new in pairs:
        if not same(old, new):
            break
        count += 1
    return count
