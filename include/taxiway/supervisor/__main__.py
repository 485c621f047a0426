"""`python -m taxiway.supervisor --home DIR`: the supervisor of `taxiway up --detach`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from taxiway.errors import TaxiwayError
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.launch import log_events
from taxiway.supervisor.runner import supervise


def main() -> int:
    """Supervise until a signal; return 1 when the installation does not come up (the state file says why)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    installation = Installation.load(parser.parse_args().home)
    os.chdir(installation.home)
    log_events(installation)
    try:
        supervise(installation, os.environ, lambda state: None)
    except TaxiwayError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
