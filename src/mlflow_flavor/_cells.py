"""One code cell of a notebook: its Python without what only a notebook understands, and the names in it."""

from __future__ import annotations

import ast
import builtins
import io
import re
import symtable
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

from mlflow_flavor._statements import quoted_names, same_scope

__all__ = ["OF_IPYTHON", "CellNames", "is_python", "names_of", "plain_python"]

# IPython puts them among Python's own names; where no notebook is, nobody has them.
OF_IPYTHON = frozenset({"display", "get_ipython"})

NOTEBOOKS_OWN = re.compile(r"\s*(?:[%!?].*|[\w.*%]+\?{1,2}\s*)")


@dataclass(frozen=True, slots=True)
class CellNames:
    """Names of a cell's top level.

    Attributes:
        bound: What the cell sets, defines or imports.
        needed: What it reads, its functions included, and neither sets itself nor finds among Python's own.
        all_of_a_module: It imports `*`, and so nobody can say what else it binds.
    """

    bound: frozenset[str]
    needed: frozenset[str]
    all_of_a_module: bool


def plain_python(cell: str) -> str:
    """The cell without the lines that IPython understands alone: `%pip`, `!ls`, `?help`, `help?`.

    A cell that is Python as it stands is left as it is, and so is what stands inside a string or an expression.
    """
    if is_python(cell):
        return cell
    lines = cell.splitlines()
    kept: list[str] = []
    while len(kept) < len(lines):
        start = len(kept)
        if NOTEBOOKS_OWN.fullmatch(lines[start]):
            indent = lines[start][: -len(lines[start].lstrip())]
            kept.append(f"{indent}pass" if indent else "")  # a block needs a statement
        else:
            kept += lines[start : _end_of_statement(lines, start)]
    return "\n".join(kept)


def names_of(cells: Iterable[str]) -> CellNames:
    """The names of cells that run one after the other; each must be Python.

    Raises:
        SyntaxError: If one is not.
    """
    source = "\n".join(cells)
    tree = ast.parse(source)
    tables = list(_tables(symtable.symtable(source, "cell", "exec")))
    kept = _kept_by_functions(tree)
    tops = {s.get_name() for s in tables[0].get_symbols() if _is_set(s)}
    bound = tops | ({s.get_name() for t in tables for s in t.get_symbols() if s.is_global() and _is_set(s)} - kept)
    read = {s.get_name() for t in tables for s in t.get_symbols() if _is_global(t, s) and s.is_referenced()}
    stars = (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.names[0].name == "*")
    needed = read.union(quoted_names(tree), kept) - bound - (vars(builtins).keys() - OF_IPYTHON)
    return CellNames(frozenset(bound), frozenset(needed), next(stars, None) is not None)


def is_python(source: str) -> bool:
    """Whether it can be parsed."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _end_of_statement(lines: list[str], start: int) -> int:
    """Number of the first line after the one that begins at `start`, with all the lines that go on with it."""
    for end in range(start + 1, len(lines) + 1):
        if not _goes_on("\n".join(lines[start:end])):
            return end
    return start + 1


def _goes_on(text: str) -> bool:
    """Whether a bracket, a string or a line is still open at the end of it."""
    try:
        for _ in tokenize.generate_tokens(io.StringIO(text.lstrip() + "\n").readline):
            pass
    except tokenize.TokenError as error:
        return "EOF in multi-line" in str(error) or "unterminated triple-quoted" in str(error)
    except SyntaxError:
        return False
    return False


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def _kept_by_functions(tree: ast.Module) -> set[str]:
    """Variables that functions only set as they need them, such as a counter: something else sets them first."""
    kept, made = set[str](), set[str]()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [node for statement in function.body for node in same_scope(statement)]
            of_module = {name for node in inner if isinstance(node, ast.Global) for name in node.names}
            first = {name for name in of_module if _is_made_first(name, inner)}
            kept |= of_module - first
            made |= first
    return kept - made


def _is_made_first(name: str, function: list[ast.AST]) -> bool:
    """Whether a function sets a variable before it uses it, or where it finds that nobody has."""
    made = [_end(node) for node in function if _sets(node, name)]
    used = [(node.lineno, node.col_offset) for node in function if _uses(node, name)]
    unset = any(isinstance(n, ast.ExceptHandler) and "NameError" in ast.unparse(n.type or n) for n in function)
    return bool(made) and (unset or not used or min(made) < min(used))


def _sets(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Assign(targets=targets):
            return any(isinstance(t, ast.Name) and t.id == name for target in targets for t in ast.walk(target))
        case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr()):
            return target == name
        case ast.For(target=ast.Name(id=target)) | ast.AsyncFor(target=ast.Name(id=target)):
            return target == name
        case ast.With(items=items) | ast.AsyncWith(items=items):
            return any(isinstance(item.optional_vars, ast.Name) and item.optional_vars.id == name for item in items)
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return any((alias.asname or alias.name.partition(".")[0]) == name for alias in names)
        case ast.FunctionDef(name=made) | ast.AsyncFunctionDef(name=made) | ast.ClassDef(name=made):
            return made == name
        case _:
            return False


def _uses(node: ast.AST, name: str) -> TypeGuard[ast.stmt | ast.expr]:
    match node:
        case ast.AugAssign(target=ast.Name(id=target)):
            return target == name
        case ast.Name(id=used, ctx=ast.Load() | ast.Del()):
            return used == name
        case _:
            return False


def _end(node: ast.AST) -> tuple[int, int]:
    """Where something is set: what stands on the right comes first."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return node.end_lineno or 0, node.end_col_offset or 0
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def _is_global(table: symtable.SymbolTable, symbol: symtable.Symbol) -> bool:
    return table.get_type() == "module" or symbol.is_global()


def _is_set(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
