"""The server: a socket, signals, and uvicorn between them."""

import contextlib
import ipaddress
import math
import socket
import sys
from types import FrameType

import uvicorn

from maxup_smoothing.certify.serving.application import Service, application

_AT_THE_END = 3  # seconds beyond the longest deadline, in which answers that are in hand are sent


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ValueError: If the address is not one of this machine, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address, family=family)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"cannot listen on {host} port {port} ({reason}); choose another with --host and --port, or --port 0 for "
            "a free one."
        ) from None
    # Connections inherit this. asyncio sets it only on sockets that know their protocol, and those of `create_server`
    # do not. Without it the second packet of an answer may wait 40 ms for the acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def is_local(listener: socket.socket) -> bool:
    """Whether only programs of this machine reach it."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def url(listener: socket.socket) -> str:
    """Where it is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Says at the first signal that it is stopping."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse new requests, and end when those in hand have their answers."""
        if not self._service.stopping:
            self._service.stopping = True
            with contextlib.suppress(OSError):
                print("stopping: finishing the requests in hand", file=sys.stderr, flush=True)
        super().handle_exit(sig, frame)


def serve(service: Service, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, which is raised again at the end."""
    config = uvicorn.Config(
        application(service),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=math.ceil(service.limits.deadline_ms / 1000) + _AT_THE_END,
    )
    _Server(config, service).run(sockets=[listener])
