"""Keeping freed memory, in a process of its own because it cannot be undone."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_memory_is_reused_without_page_faults():
    program = (
        "import resource, torch\n"
        "from tsp3d.sparse.memory import keep_freed_memory\n"
        "assert keep_freed_memory()\n"
        "faults = []\n"
        "for _ in range(16):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    torch.ones(20_000_000)\n"
        "    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
        "assert max(faults[-3:]) < 1000, faults\n"  # 20,000 each where memory is given back
    )
    subprocess.run([sys.executable, "-c", program], check=True)
