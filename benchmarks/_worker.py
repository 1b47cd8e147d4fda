"""A process of its own, which answers one JSON line for each it reads: JAX's threads and torch's stay apart.

`Worker` is the parent's side, `answer_all` the child's. Nothing but the standard library is imported, so that the child may be
of another environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

FLAGS = {  # read when JAX is imported
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "OMP_NUM_THREADS": "1",
}


class Worker:
    """The parent's side, with a folder for what is too large for a line.

    Args:
      script: What the child runs; it calls `answer_all`.
      peer: Whose process it is, for messages.
      python: Its interpreter; this one unless given.
      quiet: Whether what it writes to its standard error is thrown away.
    """

    def __init__(self, script: str, peer: str, python: str = sys.executable, quiet: bool = False) -> None:
        self.peer = peer
        self.child = subprocess.Popen(
            [python, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
            env={**os.environ, **FLAGS, **({"TF_CPP_MIN_LOG_LEVEL": "3"} if quiet else {})},
        )
        self.folder = tempfile.TemporaryDirectory()

    def ask(self, **request: Any) -> dict[str, Any]:
        """The child's answer to a request."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(json.dumps(request) + "\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"the process with {self.peer} ended")
        return json.loads(line)

    def close(self) -> None:
        """Ends the child."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        self.child.wait()
        self.folder.cleanup()


def answer_all(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answers requests until there are no more."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def seconds_of(run: Callable[[], Any], calls: int) -> dict[str, float]:
    """CPU time of this process for each call, as an answer."""
    start = time.process_time()
    for _ in range(calls):
        run()
    return {"seconds": (time.process_time() - start) / calls}
