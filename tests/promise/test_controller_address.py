"""The promise: a sidecar that is given a controller, which there is not yet, ends with status 2."""

from __future__ import annotations

import os
import subprocess

from tests.support.sockets import ENVIRONMENT, PILLION


def test_a_controller_s_address_ends_the_sidecar() -> None:
    """At once, with the setting's name; nothing is served."""
    settings = {
        "PILLION_POD": "shop/web-0",
        "PILLION_POD_IPS": "10.0.0.7",
        "PILLION_IDENTITY_DIR": "/var/run/linkerd/identity/end-entity",
        "PILLION_CONTROLLER_ADDR": "linkerd-destination.linkerd.svc.cluster.local",
    }
    done = subprocess.run(
        [*PILLION, "proxy"],
        env={**os.environ, **ENVIRONMENT, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        "PILLION_CONTROLLER_ADDR is 'linkerd-destination.linkerd.svc.cluster.local'" in done.stderr
    )
