"""Every exception of Taxiway, as one tree.

TaxiwayError
├── PermanentError            trying again cannot help: a person has to change something
│   ├── SpecError             a model spec or environments file is wrong
│   ├── SettingsError         this installation is set up wrongly (port taken, missing key, ...)
│   ├── RepositoryError       the Git repository or the ref does not exist
│   ├── ContractError         the model repository breaks its contract (docs/model-repository.md)
│   ├── BuildError            a model's environment or wheel cannot be built, or the audit objects
│   ├── TestsFailed           the model repository's own tests failed
│   ├── DataError             the dataset is missing, empty in the window, or fails its checks
│   ├── TrainingError         training raised, ran into a limit, or wrote no usable model
│   ├── PackageRejected       the packaged model does not do what production needs
│   ├── GateFailed            the candidate did not pass its gates
│   ├── IntegrityError        a digest, signature or approval does not hold
│   ├── DeliveryStopped       a delivery ended without promotion (rejected, superseded, not verified)
│   ├── NotFoundError         a model, version or run that was named does not exist
│   ├── NotAllowed            this person may not do what was asked
│   └── WrongState            what was asked is no longer (or not yet) possible in this state
└── TransientError            infrastructure: worth another try
    ├── RegistryUnavailable   MLflow did not answer, or answered with a server error
    ├── TargetUnavailable     a serving target did not answer, or answered with a server error
    ├── OrchestratorUnavailable  Airflow did not answer, or answered with a server error
    ├── GitUnavailable        the Git host did not answer
    ├── IndexUnavailable      the package index did not answer
    └── NotifierUnavailable   a notification channel did not take a message

An exception holds facts (what, where, what to do next); the CLI and the task logs format them.
"""

from __future__ import annotations


class TaxiwayError(Exception):
    """Tell a user what went wrong, where, and what to do next."""

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        super().__init__(what, where, next_step)
        self.what = what
        self.where = where
        self.next_step = next_step

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        advice = f" Next: {self.next_step}" if self.next_step else ""
        return f"{self.what}{place}{advice}"


class PermanentError(TaxiwayError):
    """Trying again cannot help: a person has to change something."""


class SpecError(PermanentError):
    """A model spec or the environments file is wrong."""


class SettingsError(PermanentError):
    """This installation is set up wrongly."""


class RepositoryError(PermanentError):
    """The Git repository or the ref does not exist."""


class ContractError(PermanentError):
    """The model repository breaks its contract."""


class BuildError(PermanentError):
    """A model's environment or wheel cannot be built, or the audit of its packages objects."""


class TestsFailed(PermanentError):
    """The model repository's own tests failed."""

    __test__ = False


class DataError(PermanentError):
    """The dataset is missing, empty in the window, or fails its checks."""


class TrainingError(PermanentError):
    """Training raised, ran into a limit, or wrote no usable model."""


class PackageRejected(PermanentError):
    """The packaged model does not do what production needs."""


class GateFailed(PermanentError):
    """The candidate did not pass its gates."""


class IntegrityError(PermanentError):
    """A digest, signature or approval does not hold."""


class DeliveryStopped(PermanentError):
    """A delivery ended without promotion."""


class NotFoundError(PermanentError):
    """A model, version or run that was named does not exist."""


class NotAllowed(PermanentError):
    """This person may not do what was asked."""


class WrongState(PermanentError):
    """What was asked is no longer (or not yet) possible in this state."""


class TransientError(TaxiwayError):
    """Infrastructure failed; the same call may work a moment later."""


class RegistryUnavailable(TransientError):
    """MLflow did not answer, or answered with a server error."""


class TargetUnavailable(TransientError):
    """A serving target did not answer, or answered with a server error."""


class OrchestratorUnavailable(TransientError):
    """Airflow did not answer, or answered with a server error."""


class GitUnavailable(TransientError):
    """The Git host did not answer."""


class IndexUnavailable(TransientError):
    """The package index did not answer."""


class NotifierUnavailable(TransientError):
    """A notification channel did not take a message."""
