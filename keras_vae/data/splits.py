"""Names of splits and their slices, in the notation of TFDS."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_vae.core import checks


@dataclasses.dataclass(frozen=True)
class Split:
    """A split in a single piece, with the attributes that TFDS requires of a split."""

    num_examples: int

    @property
    def shard_lengths(self) -> list[int]:
        """The number of examples of each piece."""
        return [self.num_examples]


def select(split: str, known: Mapping[str, Any]) -> list[tuple[str, slice]]:
    """Returns the slices of splits that a name stands for, in order.

    Args:
        split: Name of a split, a slice of one, or a sum of these, in the notation of TFDS.
        known: The splits by name, each with `num_examples` and `shard_lengths`.

    Raises:
        ValueError: If the name stands for no examples, or is not a valid name.

    Example:
        >>> splits = {"train": Split(10), "test": Split(4)}
        >>> select("train[:3]+test[-50%:]", splits)
        [('train', slice(0, 3, None)), ('test', slice(2, 4, None))]
    """
    if split in known:
        return [(split, slice(0, known[split].num_examples))]
    import tensorflow_datasets as tfds

    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(known)
    except (ValueError, KeyError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[-1].rstrip(".")
        rule = f"must be one of {list(known)}, or a slice such as 'train[:1000]', 'train[-10%:]' "
        raise checks.invalid("split", f"{rule}or 'train[:50]+test' ({reason})", split) from error
    slices = [(part.splitname, slice(*_bounds(part, known))) for part in parts]
    if not any(rows.start < rows.stop for _, rows in slices):
        raise checks.invalid("split", "must hold examples", split)
    return slices


def _bounds(part: Any, known: Mapping[str, Any]) -> tuple[int, int]:
    end = known[part.splitname].num_examples
    return part.from_ or 0, end if part.to is None else part.to
