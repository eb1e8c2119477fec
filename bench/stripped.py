"""Our engine without its instrumentation: what asking "does anybody listen?" costs is the difference.

`Stripped(name)` imports a module anew, and with it a copy of our package in which every such question is answered with
no when the code is compiled. The usual package stays as it is; both live in one process, so that they can take turns.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any

__all__ = ["Stripped"]

FEWEST_QUESTIONS = 8  # fewer were found: the engine asks in other words now, and this file must learn them
ENGINE = ("workflows._engine.loop", "workflows._engine.live")  # which a run imports, and not the package


class Stripped:
    """The module `name`, with all it imports of `workflows`, from a package that never builds a record.

    A run imports the engine: use `module` in a `with` of this object alone, in which our package is the copy.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._finder = _Finder()
        self._modules: dict[str, ModuleType] = {}
        self._usual: dict[str, ModuleType] = {}
        with self:
            self.module = importlib.import_module(name)
            for part in ENGINE:
                importlib.import_module(part)
        assert self._finder.answered >= FEWEST_QUESTIONS, f"only {self._finder.answered} questions were found"

    def __enter__(self) -> None:
        self._usual = self._taken()
        sys.modules.update(self._modules)
        sys.meta_path.insert(0, self._finder)

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.meta_path.remove(self._finder)
        self._modules = self._taken()
        sys.modules.update(self._usual)

    def _taken(self) -> dict[str, ModuleType]:
        """What is in the place of the two packages now, taken away from there."""
        return {found: sys.modules.pop(found) for found in list(sys.modules) if _is_ours(found) or found == self._name}


def _is_ours(name: str) -> bool:
    return name == "workflows" or name.startswith("workflows.")


class _Finder(MetaPathFinder):
    answered = 0

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if _is_ours(name) else None
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        spec.loader = _Loader(spec.loader.name, spec.loader.path, self)
        return spec


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, finder: _Finder) -> None:
        super().__init__(name, path)
        self._finder = finder

    def get_code(self, fullname: str) -> CodeType | None:
        return self.source_to_code(self.get_data(self.path), self.path)  # never from, nor to, a compiled file

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:
        tree = ast.parse(data, path)
        if ".instrumentation" not in self.name:
            tree = ast.fix_missing_locations(_No(self._finder).visit(tree))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)


class _No(ast.NodeTransformer):
    """Makes the two forms of the question constants, so that what depends on them is not even compiled.

    They are `<anything>.dispatcher.handlers`, and `<anything>.watched`, the reducer's own copy of the answer.
    """

    def __init__(self, finder: _Finder) -> None:
        self._finder = finder

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        asks = node.attr == "handlers" and isinstance(node.value, ast.Attribute) and node.value.attr == "dispatcher"
        if not (asks or node.attr == "watched") or not isinstance(node.ctx, ast.Load):
            return self.generic_visit(node)
        self._finder.answered += 1
        return ast.copy_location(ast.Constant(False), node)
