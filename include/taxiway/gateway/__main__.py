"""Runs the gateway of one environment: python -m taxiway.gateway --environment staging --port 7001.

With --fd N it serves on a socket that the caller has bound and hands over, as `taxiway up` does. With --line N it is
the successor of the process that serves there now, and N a socket to whoever exchanges them (see gateway.turn).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys

from aiohttp import web

from taxiway.bootstrap import Services, settings
from taxiway.errors import TaxiwayError
from taxiway.gateway.app import create_app
from taxiway.gateway.config import Config
from taxiway.gateway.listener import bind, serve


def main() -> None:
    """Serve until SIGTERM or SIGINT: then answer what has begun, stop the scorers, compact the log."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--environment", required=True, help="such as staging or production")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--port", type=int, help="port to listen on")
    place.add_argument("--fd", type=int, help="file descriptor of a socket that the caller has bound")
    parser.add_argument("--line", type=int, help="file descriptor of a successor's socket to the supervisor")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    try:
        listener = socket.socket(fileno=options.fd) if options.port is None else bind(options.host, options.port)
        line = None if options.line is None else socket.socket(fileno=options.line)
        _serve(options.environment, listener, line)
    except TaxiwayError as error:
        sys.exit(f"the gateway of {options.environment} cannot serve: {error}")


def _serve(environment: str, listener: socket.socket, line: socket.socket | None) -> None:
    services = Services(settings())
    home, variables = services.settings.home, services.settings.variables
    name = f"TAXIWAY_{environment.upper()}"
    config = Config(
        environment=environment,
        directory=home / "gateways" / environment,
        cache=services.settings.cache,
        token=variables.get(f"{name}_TOKEN", ""),
        data_token=variables.get(f"{name}_DATA_TOKEN", ""),
        memory_mb=services.settings.scorer_memory_mb,
    )
    app = create_app(config, registry=services.registry, verifier=services.verifier, clock=services.clock, line=line)
    run(app, config, listener)


def run(app: web.Application, config: Config, listener: socket.socket) -> None:
    """Serve the application; raises SettingsError when another process already serves this environment."""
    asyncio.run(serve(app, listener, drain_seconds=config.drain_timeout.total_seconds()))


if __name__ == "__main__":
    main()
