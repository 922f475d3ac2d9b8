"""Ctrl-C while a policy is trained."""

from __future__ import annotations

import signal
from typing import Any

from transformers import TrainerCallback

__all__ = ["Interrupt"]


class Interrupt(TrainerCallback):
    """Turn Ctrl-C into a checkpoint after the step at hand; a second Ctrl-C stops at once.

    ``requested`` says whether there was one.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> None:
        try:
            self.before = signal.signal(signal.SIGINT, self._request)
        except ValueError:  # not the main thread: nobody can press Ctrl-C here
            self.before = None

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def _request(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop, and save where the step ends no epoch."""
        if self.requested:
            control.should_training_stop = True
            control.should_save = bool(state.epoch % 1)  # at an epoch's end its evaluation comes first

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave out what belongs to an epoch that did not end."""
        if self.requested and state.epoch % 1:  # the trainer takes any stop for the end of an epoch
            control.should_evaluate = control.should_save = False
