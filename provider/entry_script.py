"""Finds what is wrong with an entry script by reading it, without running anything.

An entry script defines `init()` and `run(data)` at its top level, as in Azure Machine Learning. What only shows when
it runs (a missing package, a model that does not load) is found by the revision's readiness check.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_SHAPES = {"init": "def init():", "run": "def run(raw_data):"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def inspect_entry_script(path: Path, source_directory: Path | None = None) -> list[str]:
    """What is wrong with the entry script at `path`, each with what, where and how to mend it; empty when nothing is.

    `source_directory`: the folder that it has to lie in. A name that a star import or a call to `globals()` may bring
    counts as defined."""
    if source_directory is not None and not path.resolve().is_relative_to(source_directory.resolve()):
        return [f"{path} lies outside the source directory {source_directory}; move it there, or correct the path"]
    if path.suffix != ".py":
        return [f"{path} is no Python file; an entry script's name ends in .py"]
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        return [f"{path} is missing; create it, or correct the path"]
    except OSError as error:
        return [f"{path} cannot be read: {error.strerror}"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape sequence in the user's text is no matter of ours
            module = ast.parse(source, str(path))
    except SyntaxError as error:
        return [_syntax_error(path, error)]
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; nested beyond what the parser takes
        return [f"{path} cannot be parsed: {error}; mend the file"]
    names = _Names()
    names.collect(module.body)
    return [problem for name in _SHAPES for problem in _problems(path, name, names)]


def _syntax_error(path: Path, error: SyntaxError) -> str:
    text = f": {error.text.strip()}" if error.text and error.text.strip() else ""
    return f"{path}, line {error.lineno}: {error.msg}{text}; correct the syntax"


@dataclass
class _Names:
    """What the top level of a module defines; the last definition of a name counts."""

    defined: dict[str, ast.stmt] = field(default_factory=dict)
    anything: bool = False
    """Something may define any name."""

    def collect(self, body: list[ast.stmt]) -> None:
        """Adds what the statements define, those in `if`, `try`, `with` and loops included."""
        for statement in body:
            self._statement(statement)
            for block in _blocks(statement):
                self.collect(block)

    def _statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self.defined[statement.name] = statement
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    self.anything |= alias.name == "*"
                    self.defined[alias.asname or alias.name.partition(".")[0]] = statement
            case ast.Assign() | ast.AnnAssign() | ast.Delete() | ast.For() | ast.With() | ast.Expr() | ast.AugAssign():
                self._expressions(statement)
            case _:
                pass

    def _expressions(self, statement: ast.stmt) -> None:
        headers = [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.expr | ast.withitem)]
        for node in (inner for header in headers for inner in ast.walk(header)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                if not (isinstance(statement, ast.AnnAssign) and statement.value is None):
                    self.defined[node.id] = statement
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
                self.defined.pop(node.id, None)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                self.anything |= node.func.id in ("globals", "exec")


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The statements inside a compound statement that run at the same level."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    for name in ("body", "orelse", "finalbody"):
        yield getattr(statement, name, [])
    for handler in getattr(statement, "handlers", []):
        yield handler.body
    for case in getattr(statement, "cases", []):
        yield case.body


def _problems(path: Path, name: str, names: _Names) -> Iterator[str]:
    statement = names.defined.get(name)
    if statement is None:
        if not names.anything:
            near = _method_of(names, name)
            hint = f" ({name} of the class {near} does not count: it is called as a plain function)" if near else ""
            yield f"{path} defines no {name}() at its top level{hint}; add `{_SHAPES[name]}`"
    elif isinstance(statement, _Function) and not statement.decorator_list:
        # A decorator may change the parameters: what it returns is not known here.
        yield from _parameter_problems(path, statement)


def _method_of(names: _Names, name: str) -> str | None:
    for owner, statement in names.defined.items():
        if isinstance(statement, ast.ClassDef):
            for inner in statement.body:
                if isinstance(inner, _Function) and inner.name == name:
                    return owner
    return None


def _parameter_problems(path: Path, function: _Function) -> Iterator[str]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = [argument.arg for argument in positional[: len(positional) - len(arguments.defaults)]]
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    required_keywords = [argument.arg for argument, default in keywords if default is None]
    where = f"{path}, line {function.lineno}"
    if function.name == "init":
        needed = required + required_keywords
        if needed:
            yield (
                f"{where}: init() is called without arguments, but needs {', '.join(needed)}; "
                f"write `{_SHAPES['init']}`, or give every parameter a default"
            )
        return
    # What the scoring server can call: it fits the request's data to named parameters.
    if arguments.posonlyargs or arguments.vararg or arguments.kwarg:
        yield f"{where}: run() has *, ** or positional-only parameters; name each one, as in `{_SHAPES['run']}`"
    elif all(argument.arg == "request_headers" for argument in [*positional, *arguments.kwonlyargs]):
        yield f"{where}: run() takes no request data; give it a parameter, as in `{_SHAPES['run']}`"
