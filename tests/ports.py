"""Ports of this machine."""

import socket


def free_port() -> int:
    """One of 127.0.0.1 that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
