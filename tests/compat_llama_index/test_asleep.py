"""Who has nothing to do with llama-index pays nothing for the bridge to it."""

from __future__ import annotations

import subprocess
import sys

RUN = """
import asyncio, sys
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Hello(Workflow):
    @step
    async def hello(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="hello")

async def main():
    await Hello().run()

asyncio.run(main())
print(*sorted(m for m in sys.modules if "llama_index" in m), sep="\\n")
"""


def test_a_run_imports_nothing_of_llama_index_nor_the_bridge() -> None:
    ran = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
