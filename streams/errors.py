"""The errors that a user can meet; each message says what, where, why and the fix.

::

    KappaError
    ├── DefinitionError     a pipeline file declares something that can't work
    ├── ConfigurationError  the environment or a setting is wrong
    ├── BrokerError         Kafka is missing, unreachable or refuses
    │   └── UnreachableError  nobody answers at its address
    ├── TopicMismatchError  an existing topic differs from what the pipeline needs
    ├── SourceError         an input file can't be read
    ├── StateError          a snapshot or a stored object is damaged
    ├── WorkerError         a process of the pipeline keeps dying
    ├── TrainingError       a training run can't start or failed
    └── ModelError          a model package is missing, damaged or does not fit
"""


class KappaError(Exception):
    """Base of every error that is meant for the user; the command line prints no trace of it."""


class DefinitionError(KappaError):
    """A pipeline file declares something that can't work."""


class ConfigurationError(KappaError):
    """The environment or a setting is wrong."""


class BrokerError(KappaError):
    """Kafka is missing, unreachable or refuses."""


class UnreachableError(BrokerError):
    """Nobody answers at Kafka's address now; somebody may later."""


class TopicMismatchError(KappaError):
    """An existing topic differs from what the pipeline needs."""


class SourceError(KappaError):
    """An input file can't be read."""


class StateError(KappaError):
    """A snapshot or a stored object is damaged."""


class WorkerError(KappaError):
    """A process of the pipeline keeps dying."""


class TrainingError(KappaError):
    """A training run can't start or failed."""


class ModelError(KappaError):
    """A model package is missing, damaged or does not fit the pipeline."""
