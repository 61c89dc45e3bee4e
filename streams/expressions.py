"""The small language in which a pipeline file turns fields of a record into numbers.

An expression is evaluated over the columns of a batch and yields one float64 per record, so that
no Python runs per event. Missing values are NaN, and so is what is made of a missing value.

Numbers (:class:`Value`) are combined by ``+ - * /``, conditions (:class:`Above`, :class:`Below`,
:class:`Equals`, :class:`OneOf`) by ``& | ~``; a condition is 1 where it holds and 0 where not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, Sequence[Any]]
"""A decoded batch: field name → one value per record, in log order."""

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}


class Expression(ABC):
    """What yields a number per record; combined with others by ``+ - * /``."""

    @property
    @abstractmethod
    def fields(self) -> tuple[str, ...]:
        """The fields that it reads, each once."""

    @abstractmethod
    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the values, shape (n,)."""

    def __add__(self, other: Expression | float) -> Arithmetic:
        """Return the sum."""
        return Arithmetic("+", self, _expression(other))

    def __sub__(self, other: Expression | float) -> Arithmetic:
        """Return the difference."""
        return Arithmetic("-", self, _expression(other))

    def __mul__(self, other: Expression | float) -> Arithmetic:
        """Return the product."""
        return Arithmetic("*", self, _expression(other))

    def __truediv__(self, other: Expression | float) -> Arithmetic:
        """Return the quotient; missing where the divisor is 0."""
        return Arithmetic("/", self, _expression(other))


class Condition(Expression):
    """An expression that is 1, 0 or missing; combined with others by ``& | ~``."""

    def __and__(self, other: Condition) -> Both:
        """Return the condition that both hold."""
        return Both(self, other)

    def __or__(self, other: Condition) -> Either:
        """Return the condition that one of them holds."""
        return Either(self, other)

    def __invert__(self) -> Not:
        """Return the condition that this does not hold."""
        return Not(self)


@dataclass(frozen=True)
class Value(Expression):
    """The field itself, as a number; booleans become 0 and 1."""

    field: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The field."""
        return (self.field,)

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the field's values, shape (n,)."""
        return np.asarray(columns[self.field], dtype=np.float64)  # None becomes NaN


@dataclass(frozen=True)
class Constant(Expression):
    """The same number at every record."""

    number: float

    @property
    def fields(self) -> tuple[str, ...]:
        """None."""
        return ()

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:  # noqa: ARG002
        """Return the number, shape (1,): it is combined with columns of any length."""
        return np.array([self.number], dtype=np.float64)


@dataclass(frozen=True)
class Arithmetic(Expression):
    """Two expressions combined by ``+``, ``-``, ``*`` or ``/``; missing where not finite."""

    operator: Literal["+", "-", "*", "/"]
    left: Expression
    right: Expression

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of both sides."""
        return tuple(dict.fromkeys(self.left.fields + self.right.fields))

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the results, shape (n,)."""
        with np.errstate(all="ignore"):
            made = _ARITHMETIC[self.operator](
                self.left.evaluate(columns), self.right.evaluate(columns)
            )
        return np.where(np.isfinite(made), made, np.nan)


@dataclass(frozen=True)
class Above(Condition):
    """1 where the field is greater than ``threshold``, else 0; NaN where it is missing."""

    field: str
    threshold: float

    @property
    def fields(self) -> tuple[str, ...]:
        """The field."""
        return (self.field,)

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the comparison, shape (n,)."""
        values = Value(self.field).evaluate(columns)
        return np.where(np.isnan(values), np.nan, (values > self.threshold).astype(np.float64))


@dataclass(frozen=True)
class Below(Condition):
    """1 where the field is less than ``threshold``, else 0; NaN where it is missing."""

    field: str
    threshold: float

    @property
    def fields(self) -> tuple[str, ...]:
        """The field."""
        return (self.field,)

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the comparison, shape (n,)."""
        values = Value(self.field).evaluate(columns)
        return np.where(np.isnan(values), np.nan, (values < self.threshold).astype(np.float64))


@dataclass(frozen=True)
class Equals(Condition):
    """1 where the field equals ``value``, else 0; NaN where it is missing."""

    field: str
    value: str | int | bool

    @property
    def fields(self) -> tuple[str, ...]:
        """The field."""
        return (self.field,)

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the comparison, shape (n,)."""
        return np.asarray(
            [np.nan if v is None else float(v == self.value) for v in columns[self.field]],
            dtype=np.float64,
        )


@dataclass(frozen=True)
class OneOf(Condition):
    """1 where the field is one of ``values``, else 0; NaN where it is missing."""

    field: str
    values: tuple[str | int | bool, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The field."""
        return (self.field,)

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the comparison, shape (n,)."""
        wanted = frozenset(self.values)
        return np.asarray(
            [np.nan if v is None else float(v in wanted) for v in columns[self.field]],
            dtype=np.float64,
        )


@dataclass(frozen=True)
class Both(Condition):
    """1 where both conditions hold, 0 where one surely does not, else missing."""

    left: Condition
    right: Condition

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of both sides."""
        return tuple(dict.fromkeys(self.left.fields + self.right.fields))

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the condition, shape (n,)."""
        left, right = self.left.evaluate(columns), self.right.evaluate(columns)
        return np.where((left == 0) | (right == 0), 0.0, left * right)


@dataclass(frozen=True)
class Either(Condition):
    """1 where one of the conditions holds, 0 where surely none does, else missing."""

    left: Condition
    right: Condition

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of both sides."""
        return tuple(dict.fromkeys(self.left.fields + self.right.fields))

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the condition, shape (n,)."""
        left, right = self.left.evaluate(columns), self.right.evaluate(columns)
        return np.where((left == 1) | (right == 1), 1.0, left + right)


@dataclass(frozen=True)
class Not(Condition):
    """1 where the condition does not hold, 0 where it does; missing where that is unknown."""

    condition: Condition

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the condition."""
        return self.condition.fields

    def evaluate(self, columns: Columns) -> NDArray[np.float64]:
        """Return the condition, shape (n,)."""
        return 1.0 - self.condition.evaluate(columns)


def _expression(side: Expression | float) -> Expression:
    return side if isinstance(side, Expression) else Constant(float(side))
