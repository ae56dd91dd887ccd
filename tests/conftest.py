"""What holds for every test: no network, no warning of ours, and nothing that depends on how busy a
machine is."""

import ipaddress
import os
import socket
from collections.abc import Iterator
from functools import partialmethod
from typing import Any

import hypothesis
import pytest

# These are read when the packages are imported, also in processes that tests start. The port is
# closed.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "SE_OFFLINE": "true",
    "SE_AVOID_STATS": "true",
}

hypothesis.settings.register_profile(
    "loopscope",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("loopscope")


def pytest_configure(config: pytest.Config) -> None:
    # Not in pyproject.toml: pytest would import loopscope for it before jaxtyping can check its
    # signatures.
    config.addinivalue_line("filterwarnings", "error::loopscope.common.errors.LoopscopeWarning")


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """A test that connects to another machine, or looks its name up, fails."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def checked(host: Any) -> None:
        if not _is_here(host):
            test = os.environ.get("PYTEST_CURRENT_TEST", "a test").removesuffix(" (call)")
            pytest.fail(
                f"tests must not use the network, but {test} asked for {host}. "
                "Give it a folder, or a server at 127.0.0.1."
            )

    def connect_here(self: socket.socket, address: Any, *, connect: Any = connect) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            checked(address[0])
        return connect(self, address)

    def look_up_here(host: Any, *options: Any, **named: Any) -> Any:
        checked(host)
        return getaddrinfo(host, *options, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_here)
        patch.setattr(socket.socket, "connect_ex", partialmethod(connect_here, connect=connect_ex))
        patch.setattr(socket, "getaddrinfo", look_up_here)
        yield


@pytest.fixture(autouse=True)
def shelves_as_before() -> Iterator[None]:
    """What a test puts on a shelf is on it in that test alone."""
    from loopscope.shelves import SHELVES

    before = {kind: dict(shelf.placed) for kind, shelf in SHELVES.items()}
    yield
    for kind, shelf in SHELVES.items():
        shelf.placed.clear()
        shelf.placed.update(before[kind])


def _is_here(host: Any) -> bool:
    """Whether a host is this machine; 0.0.0.0 and :: are all of its own addresses."""
    if host in (None, "", b"", "localhost", b"localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
