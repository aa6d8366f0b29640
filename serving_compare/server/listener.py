"""A listening socket, from its first to its last connection."""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import struct
import sys

from serving_compare.server.errors import ServerError

BACKLOG = 1024
_SO_ATTACH_FILTER = 26
_RETURN_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)


def bind_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any that is free.

    Raises:
        ServerError: The address cannot be had.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as on_failure:
            listener = on_failure.enter_context(socket.socket(family, kind))
            # Or a port stays taken for a minute behind a server that had clients.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            on_failure.pop_all()
    except (OSError, UnicodeError) as err:
        reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
        raise ServerError(
            f"{host}:{port}: expected an address to listen on, found: {reason}. Stop what listens "
            "there, or choose another --host or --port."
        ) from err
    return listener


def format_url(host: str, port: int) -> str:
    """Return the URL under which this machine reaches a listener."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def refuse_connections(listener: socket.socket) -> None:
    """Let no further connection come into the queue; those that are in it can be accepted still.

    Closing a listener resets whatever waits in its queue, its request perhaps sent already. A
    filter that drops every packet for the listener itself (not for its connections) leaves time to
    empty the queue first. Linux only; elsewhere the last connections may be lost.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_RETURN_NOTHING)
    listener.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program))
    )


def has_waiting_connection(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    return bool(select.select([listener], [], [], 0)[0])
