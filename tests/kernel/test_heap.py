"""Threads share a few arenas, unless whoever runs the process asks for more: counted by glibc itself, in processes."""

import os
import platform
import subprocess
import sys

import pytest

ALLOCATING = """
import ctypes, sys, tempfile, threading
from kernel import heap

if "bounded" in sys.argv:
    print(heap.bound_arenas())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(12)

def allocate():
    together.wait()
    for _ in range(200):
        libc.malloc(20_000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(12)]
for one in threads:
    one.start()
for one in threads:
    one.join()
with tempfile.NamedTemporaryFile("r") as told:
    file = libc.fopen(told.name.encode(), b"w")
    libc.malloc_info(0, ctypes.c_void_p(file))
    libc.fclose(ctypes.c_void_p(file))
    print(told.read().count("<heap nr="))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")


def told(*arguments: str, **environment: str) -> list[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | environment
    ran = subprocess.run(
        [sys.executable, "-c", ALLOCATING, *arguments], env=ours, check=True, capture_output=True, text=True
    )
    return ran.stdout.split()


def test_threads_share_two_arenas_once_they_are_bound() -> None:
    assert told("bounded") == ["True", "2"]
    assert int(told()[-1]) > 2


def test_whoever_runs_the_process_may_ask_for_another_number() -> None:
    said, arenas = told("bounded", MALLOC_ARENA_MAX="4")
    assert said == "False"
    assert int(arenas) > 2
