"""Commands in namespaces of their own, without root's rights: as another user, with other files."""

import os
import subprocess

import pytest


def unshare(*options: str) -> list[str]:
    """What to put before a command. Where the kernel doesn't let us, the test is skipped, or fails with CI=true."""
    command = ["unshare", "--user", *options]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        reason = f"`{' '.join(command)}` isn't allowed here"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return command
