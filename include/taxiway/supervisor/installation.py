"""One installation: its home directory, its ports, and where everything of it lies."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from taxiway.bootstrap import PROJECT
from taxiway.errors import SettingsError

HOST = "127.0.0.1"
_FILE = "installation.json"


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports of an installation, all on the loopback address."""

    airflow: int = 8080
    mlflow: int = 5000
    staging: int = 7001
    production: int = 7002


@dataclass(frozen=True, slots=True)
class Installation:
    """What `taxiway up` remembers, so that every other command needs the home directory only."""

    home: Path
    models: Path = PROJECT / "include" / "models"
    ports: Ports = Ports()

    @classmethod
    def load(cls, home: Path) -> Installation:
        """Read the settings saved in the home directory, or the defaults; raises SettingsError when unreadable."""
        home = home.expanduser().resolve()
        path = home / _FILE
        if not path.exists():
            return cls(home)
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            return cls(home, Path(saved["models"]), Ports(**saved["ports"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(
                f"the settings of this installation cannot be read: {error!r}",
                where=str(path),
                next_step="delete the file; `taxiway up` writes it again from its options.",
            ) from error

    def changed(self, *, models: Path | None = None, **ports: int | None) -> Installation:
        """Return the installation with the given options; None keeps what it has. Raises SettingsError."""
        wanted = replace(self.ports, **{name: port for name, port in ports.items() if port is not None})
        chosen = [getattr(wanted, field.name) for field in fields(wanted)]
        if len(set(chosen)) < len(chosen):
            raise SettingsError(f"the four ports must differ, but are {', '.join(map(str, chosen))}")
        return replace(self, ports=wanted, models=models.expanduser().resolve() if models else self.models)

    def save(self) -> None:
        """Write the settings to the home directory."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        document = {"models": str(self.models), "ports": asdict(self.ports)}
        (self.home / _FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def url(self, service: str) -> str:
        """Return the address of `airflow`, `mlflow`, `staging` or `production`."""
        return f"http://{HOST}:{getattr(self.ports, service)}"

    def log(self, program: str) -> Path:
        """Return the log file of a program."""
        return self.home / "logs" / f"{program}.log"

    @property
    def run(self) -> Path:
        """The directory of the supervisor's lock and state."""
        return self.home / "run"

    @property
    def airflow_home(self) -> Path:
        """AIRFLOW_HOME of this installation."""
        return self.home / "airflow"

    @property
    def mlflow_home(self) -> Path:
        """The directory of MLflow's database and artifacts."""
        return self.home / "mlflow"

    @property
    def keys(self) -> Path:
        """The directory of the platform's key pair."""
        return self.home / "keys"
