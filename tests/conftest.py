"""Fixtures for every test: virtual time, and the records of what runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

# Its plugin would load it after the last test, where ast.parse of CPython 3.11 was seen to fail (SystemError).
import hypothesis  # noqa: F401
import pytest

from workflows.testing import RecordLog, VirtualClockLoop, recording


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests that ask for `clock` run on virtual time, all others on the real clock."""
    virtual = "clock" in getattr(item, "fixturenames", ())
    return {"virtual": VirtualClockLoop} if virtual else {"real": asyncio.new_event_loop}


@pytest.fixture
async def clock() -> VirtualClockLoop:
    """The loop of the test; `clock.time()` is the virtual time in seconds, which starts at 0."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    return loop


@pytest.fixture
def records() -> Iterator[RecordLog]:
    """Every record of the runs of this test; errors of record handlers are raised."""
    with recording() as log:
        yield log
