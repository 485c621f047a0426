"""The supervisor: brings all programs of an installation up, keeps them up, and takes them down in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from taxiway.adapters.model_signing import generate_keys
from taxiway.errors import SettingsError, TaxiwayError
from taxiway.spec_files import load_specs
from taxiway.supervisor.airflow_environment import passwords_file
from taxiway.supervisor.credentials import Credentials, ensure_credentials, write_private
from taxiway.supervisor.installation import Installation
from taxiway.supervisor.keeper import Keeper, Registrar
from taxiway.supervisor.orders import orders
from taxiway.supervisor.probing import Prober
from taxiway.supervisor.processes import port_owner, sweep
from taxiway.supervisor.programs import Program, base_environment, programs
from taxiway.supervisor.state import Phase, ProgramState, SupervisorState, supervisor_lock, write_state

Observer = Callable[[SupervisorState], None]
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_logger = logging.getLogger(__name__)


def supervise(installation: Installation, inherited: Mapping[str, str], observe: Observer) -> None:
    """Run the installation until SIGTERM, SIGINT or SIGHUP; afterwards none of its processes is left.

    `inherited` is the caller's environment. Raises SettingsError when it is up already, a port is taken or a program
    does not come up, SpecError when there is no directory of specs.
    """
    with supervisor_lock(installation.run):
        supervisor = Supervisor(installation, observe)
        try:
            left = sweep(installation.home)
            if left:
                _logger.warning("ended %d processes that an earlier supervisor left behind", left)
            check_ports(installation)
            credentials = prepare(installation, inherited)
            asyncio.run(supervisor.run(programs(installation, credentials, inherited)))
        except TaxiwayError as error:
            _logger.error("%s", error)
            supervisor.change("failed", str(error))
            raise
        supervisor.change("stopped")


def check_ports(installation: Installation) -> None:
    """Raise SettingsError that names every port which is taken, by whom, and the option that changes it."""
    services = ("airflow", "mlflow", "staging", "production")
    ports = {name: getattr(installation.ports, name) for name in services}
    taken = {name: owner for name, port in ports.items() if (owner := port_owner(port))}
    if taken:
        raise SettingsError(
            "; ".join(f"port {ports[name]} ({name}) is taken by {owner}" for name, owner in taken.items()),
            next_step=f"stop it, or choose another port: {', '.join(f'--{name}-port' for name in taken)}.",
        )


def prepare(installation: Installation, inherited: Mapping[str, str]) -> Credentials:
    """Make directories, keys, secrets and Airflow's users; what exists stays."""
    for directory in (installation.airflow_home, installation.mlflow_home / "artifacts"):
        directory.mkdir(parents=True, exist_ok=True)
    generate_keys(installation.keys)
    found = load_specs(installation.models, base_environment(installation, inherited))
    if found.problems:
        _logger.warning("%d problems in the model specs: see `taxiway validate`", len(found.problems))
    people = {name for spec in found.specs.values() for name in (*spec.uat.testers, *spec.approval.approvers)}
    credentials = ensure_credentials(installation.home, people)
    write_private(passwords_file(installation), dict(credentials.passwords))
    return credentials


class Supervisor:
    """Runs programs until a signal, and tells the world about every change of their states."""

    def __init__(self, installation: Installation, observe: Observer) -> None:
        self._installation = installation
        self._observe = observe
        self._state = SupervisorState(os.getpid())
        self.change("starting")

    def change(self, phase: Phase, error: str = "") -> None:
        """Tell the world about a new phase."""
        self._publish(replace(self._state, phase=phase, error=error))

    async def run(self, wanted: Sequence[Program]) -> None:
        """Keep the programs running until a signal, then stop them in order; raises SettingsError as `supervise`."""
        prober = Prober()
        registrar = Registrar(self._installation.home)
        keepers = {program.name: self._keeper(program, registrar, prober) for program in wanted}
        self._publish(replace(self._state, programs={name: ProgramState() for name in keepers}))
        stop = asyncio.Event()

        def ask_to_stop() -> None:
            """Stop in order; asked again, at once."""
            if stop.is_set():
                for keeper in keepers.values():
                    keeper.kill()
            stop.set()

        def exchange(name: str) -> None:
            if name in keepers:
                keepers[name].exchange()

        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, ask_to_stop)
        try:
            with orders(self._installation.run, exchange):
                await self._keep(keepers, stop)
        finally:
            self.change("stopping")
            await _stop_all(list(keepers.values()))
            await prober.close()
            sweep(self._installation.home)

    async def _keep(self, keepers: Mapping[str, Keeper], stop: asyncio.Event) -> None:
        """Return when told to stop; raise what a program's first start raised."""
        running = [
            asyncio.create_task(keeper.run([keepers[name] for name in keeper.program.after]))
            for keeper in keepers.values()
        ]
        stopped = asyncio.create_task(stop.wait())
        all_ready = asyncio.create_task(_all_ready(keepers.values()))
        all_ready.add_done_callback(lambda task: None if task.cancelled() else self.change("running"))
        try:
            pending: set[asyncio.Task[object]] = {stopped, *running}
            while stopped in pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            all_ready.cancel()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _keeper(self, program: Program, registrar: Registrar, prober: Prober) -> Keeper:
        def report(state: ProgramState) -> None:
            self._publish(self._state.with_program(program.name, state))

        log = self._installation.log(program.name)
        return Keeper(program, log, registrar=registrar, prober=prober, report=report)

    def _publish(self, state: SupervisorState) -> None:
        self._state = state
        write_state(self._installation.run, state)
        self._observe(state)


async def _all_ready(keepers: Iterable[Keeper]) -> None:
    for keeper in keepers:
        await keeper.ready.wait()


async def _stop_all(keepers: list[Keeper]) -> None:
    """Stop by rank: what starts work first, what others need last."""
    ranked = sorted(keepers, key=lambda keeper: keeper.program.stop_rank)
    for _, group in groupby(ranked, key=lambda keeper: keeper.program.stop_rank):
        await asyncio.gather(*(keeper.stop() for keeper in group))
