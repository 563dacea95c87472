"""Compares our load generator with nghttp2's `h2load`, on the handler that does nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from pandawn_tools.bench.load import Shape, Target
from pandawn_tools.bench.processes import BenchError

_FINISHED = re.compile(r"finished in .*?, ([\d.]+) req/s")


def h2load_rps(target: Target, shape: Shape, message: bytes, directory: Path) -> float | None:
    """The calls per second of `h2load` with the same connections and calls in flight; None if it is not installed.

    It sends the same message in all calls, so it cannot measure other handlers.
    """
    program = shutil.which("h2load")
    if program is None:
        return None
    body = directory / "request"
    body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    host, port = target.addresses[0]
    done = subprocess.run(
        [
            *(program, f"-c{shape.connections}", f"-m{shape.streams}", "-t1"),
            *(f"--warm-up-time={round(shape.warm_s * 1000)}ms", f"-D{max(1, shape.measure_s):.0f}"),
            *(f"--data={body}", "-Hcontent-type: application/grpc", "-Hte: trailers"),
            f"http://{host}:{port}{target.path}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    found = _FINISHED.search(done.stdout)
    if found is None:
        raise BenchError(f"h2load failed:\n{done.stdout}{done.stderr}")
    return float(found[1])
