"""`worker status` starts in at most 1.3 times what `python -c "import requests"` takes.

Run with `pytest -s tests/benchmarks/test_client_start.py`. Measured is everything up to the point
where the connection is refused: nothing listens at the server's address.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 30
MOST = 1.3

JOB = "0f3c1f60-9d4c-4b3e-8a52-6f1f6f0d2a11"
CA = Path(__file__).parents[2] / "certs" / "ca.pem"


def test_start_of_the_client(tmp_path):
    """People would feel the client as slow, and scripts that call it often would be."""
    environ = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "WORKER_SERVER": "https://127.0.0.1:1",
        "WORKER_CACERT": str(CA),
        "WORKER_USER": "ann",
        "WORKER_PASSWORD": "secret",
        # As after an installation: compiled, here without writing into the tree.
        "PYTHONPYCACHEPREFIX": str(tmp_path / "cache"),
    }
    programs = {
        "import requests": [sys.executable, "-c", "import requests"],
        "worker status": [str(Path(sys.executable).with_name("worker")), "status", JOB],
    }
    times = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, argv in programs.items():
            begun = time.perf_counter()
            subprocess.run(argv, env=environ, capture_output=True, check=False)
            times[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(found) for name, found in times.items()}
    ratio = medians["worker status"] / medians["import requests"]
    print(", ".join(f"{name}: {1000 * found:.0f} ms" for name, found in medians.items()))
    print(f"ratio {ratio:.2f}, at most {MOST}")
    assert ratio <= MOST
