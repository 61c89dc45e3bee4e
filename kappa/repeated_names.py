"""Features that a pipeline file declares twice under one name.

Python keeps the last of two equal keys of a dictionary and says nothing, so the file's text is
looked at.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from streams.errors import DefinitionError


def refuse_repeated_names(file: Path) -> None:
    """Raise DefinitionError where a dictionary given to ``Definition(...)`` repeats a key."""
    tree = ast.parse(file.read_bytes(), str(file))
    assigned = {name: value for name, value in _assigned(tree) if isinstance(value, ast.Dict)}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _name(call.func) == "Definition":
            for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
                features = argument
                if isinstance(argument, ast.Name):
                    features = assigned.get(argument.id, argument)
                if isinstance(features, ast.Dict):
                    _check(features, file)


def _check(features: ast.Dict, file: Path) -> None:
    first: dict[object, int] = {}
    for key in features.keys:
        if not isinstance(key, ast.Constant):
            continue
        if key.value in first:
            raise DefinitionError(
                f"feature {key.value!r} is declared twice ({file}:{first[key.value]} and "
                f"{file}:{key.lineno}): the second would take the place of the first; give each "
                "its own name"
            )
        first[key.value] = key.lineno


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement.value
        elif (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.value is not None
        ):
            yield statement.target.id, statement.value


def _name(function: ast.expr) -> str | None:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else None
