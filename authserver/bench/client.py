"""The start of the client `checkpassword`, beside that of a Python that imports the same."""

import os
import subprocess
import sys
from pathlib import Path

# what the client imports: the standard library's, PyJWT and cryptography
IMPORTS = """
import argparse, base64, dataclasses, http.client, ipaddress, json, os, re, signal, ssl, sys
import tempfile, typing, urllib.parse, jwt
from cryptography import exceptions, x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
"""
STARTS, START_GOAL = 15, 2.5  # of the client, each; its time in that of IMPORTS


def seconds_of(command: list[str]) -> float:
    """Processor time of a program from start to exit, without anything on its stdin."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    usage = os.wait4(process.pid, 0)[2]
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime


def measure_client() -> None:
    """The client without network, in a Python that only imports the same; the best of each."""
    client = [str(Path(sys.executable).with_name("checkpassword")), "-m", "authext", "--jwtkey=k"]
    commands = {
        "python3 -c IMPORTS": [sys.executable, "-c", IMPORTS],
        "checkpassword": [*client, "-u", "https://localhost/checkpassword/"],
    }
    best = dict.fromkeys(commands, 1e9)
    for _ in range(STARTS):
        for name, command in commands.items():
            best[name] = min(best[name], seconds_of(command))
    imports, whole = best.values()
    print("\nstart to exit, ms CPU: " + ", ".join(f"{n} {v * 1000:.0f}" for n, v in best.items()))
    print(f"the client in its imports: {whole / imports:.2f} (goal {START_GOAL})")
