"""What is found in a training."""

from __future__ import annotations

import dataclasses


class HealthWarning(UserWarning):
    """Says what goes wrong in a training, and what to do about it.

    Its own category, so that `warnings.simplefilter("error", HealthWarning)` ends a training at the
    first finding, and `"ignore"` silences them.

    Example:
        >>> issubclass(HealthWarning, UserWarning)
        True
    """


@dataclasses.dataclass(frozen=True)
class Finding:
    """A symptom of a training, as `HealthCheck` found it.

    Attributes:
        symptom: Its name, such as `"posterior collapse"`.
        epoch: The epoch at whose end it was found, from 0.
        step: The optimizer's steps by then.
        text: What was seen, and the remedy.
    """

    symptom: str
    epoch: int
    step: int
    text: str
