"""What a health check finds in a training."""

from __future__ import annotations

import dataclasses


class HealthWarning(UserWarning):
    """Says what is going wrong in a training, and what to do about it.

    It is a category of its own, so that `warnings.simplefilter("error", HealthWarning)` ends a
    training at the first finding, and `"ignore"` silences all of them.

    Example:
        >>> issubclass(HealthWarning, UserWarning)
        True
    """


@dataclasses.dataclass(frozen=True)
class Finding:
    """A symptom of a training, as `HealthCheck` found it.

    Attributes:
        symptom: Name of the symptom, such as `"posterior collapse"`.
        epoch: The epoch at the end of which it was found, counted from 0.
        step: The number of optimizer steps made by then.
        text: What was seen, and the remedy.
    """

    symptom: str
    epoch: int
    step: int
    text: str
