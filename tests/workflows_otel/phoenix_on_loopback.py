"""Starts a Phoenix server that listens on this machine only; run by the python of Phoenix' own environment.

usage: python phoenix_on_loopback.py    (PHOENIX_PORT, PHOENIX_GRPC_PORT and PHOENIX_WORKING_DIR say where)
"""

from __future__ import annotations

from typing import Any

import grpc.aio

_make_server = grpc.aio.server


def _loopback_server(*args: Any, **kwargs: Any) -> Any:
    """A gRPC server that binds to 127.0.0.1 where Phoenix asks for every interface, which no setting changes."""
    server = _make_server(*args, **kwargs)
    add_port = server.add_insecure_port
    server.add_insecure_port = lambda address: add_port(address.replace("[::]", "127.0.0.1"))
    return server


grpc.aio.server = _loopback_server

if __name__ == "__main__":
    from phoenix.server.main import main  # pyright: ignore[reportMissingImports]  # installed in that environment

    main()
