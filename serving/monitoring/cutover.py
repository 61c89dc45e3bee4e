"""The monitor goes over to the version that is live: to its bins, and its definition's features."""

from __future__ import annotations

import structlog

from serving.monitoring.declared import Declared
from serving.monitoring.inputs import MonitorInputs
from serving.monitoring.judging import LiveModel
from serving.monitoring.live_model import LiveModels
from serving.monitoring.state import MonitorState

_LOG = structlog.get_logger(role="monitor")


class LiveVersion:
    """Keeps state and inputs in step with ``models``.

    Raises:
        BrokerError: the broker can't be reached, or refuses.
        ModelError: the live model's package is missing or damaged.
    """

    def __init__(
        self, models: LiveModels, declared: Declared, inputs: MonitorInputs, state: MonitorState
    ) -> None:
        self._models, self._declared = models, declared
        self._inputs, self._state = inputs, state
        # Go on counting in the bins that the saved counts are in.
        counted = models.model(state.counted_version)
        if counted is not None:
            state.use(counted)

    def use(self, models_end: int) -> bool:
        """Judge by the version that is live by ``models_end``, and count in its bins.

        Returns False where it is one of another definition, whose features have to be read first.

        Raises:
            ConfigurationError: the pipeline file does not declare that definition.
        """
        newly = self._models.follow(models_end)
        definition = self._models.definition
        if definition not in (None, self._inputs.topics.definition):
            self._change_features(definition, newly)
            return False
        if newly is None or self._state.counted_version == newly.version:
            return True
        if self._models.share_bins(self._state.counted_version, newly.version):
            self._state.use(newly)  # learned online: nothing to count anew
        else:
            rows = self._inputs.features_again(self._state.recount_from())
            self._state.recount(newly, rows)
        return True

    def _change_features(self, version: int, newly: LiveModel | None) -> None:
        """Go over to the features of another definition, those of open windows included."""
        definition = self._declared.definition(version)
        from_ms = self._state.change_features(definition.groups)
        if newly is not None:
            self._state.use(newly)
        self._inputs.change_features(definition, from_ms)
        _LOG.info("the features of another definition are judged", definition=version)
