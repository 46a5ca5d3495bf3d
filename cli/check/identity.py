"""Checks of the authority, its issuer, and of what a workload proves itself with."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from cli.check.finding import Check, Finding, bad, good, warning
from core.clock import utc_text
from core.errors import ConfigError, IdentityError
from identity.anchors import load_anchors
from identity.authority import load_authority
from identity.certify import Certifier
from identity.describe import Described, describe
from identity.files import exposure
from identity.material import Material

LIFE_DAYS: Final = 60
"""What an anchor or issuer should have left, as with ``linkerd check``."""
_ROTATE: Final = "pillion identity rotate"


@final
class AuthorityChecks:
    """The directory of ``pillion identity init``, and the socket of ``serve``."""

    def __init__(self, directory: Path, now: float) -> None:
        self._directory = directory
        self._now = now

    def __iter__(self) -> Iterator[Check]:
        yield Check("authority-issues", "the authority can issue certificates", self._issues)
        if self._directory.is_dir():
            yield Check(
                "authority-lasts",
                f"its anchors and issuer last for another {LIFE_DAYS} days",
                self._lasts,
            )
            yield Check("authority-private", "its keys are its owner's alone", self._private)

    def _issues(self) -> Finding:
        try:
            authority = load_authority(self._directory)
            ends = Certifier(authority, warn=lambda _: None).check(self._now)
        except (IdentityError, ConfigError) as error:
            return bad(str(error), remedy=f"{_ROTATE}, or make an authority: pillion identity init")
        return good(f"for {authority.trust_domain}, until {utc_text(ends)}")

    def _lasts(self) -> Finding:
        paths = [self._directory / "anchors", self._directory / "issuer.pem"]
        found: list[Described] = []
        problems: list[str] = []
        for path in paths:
            described, faults = describe(path)
            found += described
            problems += faults
        over = [each for each in found if each.state(self._now) != "valid"]
        short = [each for each in found if each.days_left(self._now) < LIFE_DAYS]
        if over or problems:
            return bad(*problems, *map(self._say, over), remedy=_ROTATE)
        if short:
            return warning(*map(self._say, short), remedy=_ROTATE)
        least = min(found, key=lambda each: each.not_after)
        return good(f"the first to end is {self._say(least)}")

    def _say(self, each: Described) -> str:
        ends = f"{each.state(self._now)}, ends {utc_text(each.not_after)}"
        return f"{each.subject} ({each.fingerprint[:16]}): {ends}"

    def _private(self) -> Finding:
        faults = []
        for name in ("issuer.key", "root.key", "token-secret", "ledger.jsonl"):
            path = self._directory / name
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            fault = exposure(found, found.st_uid, ())
            if fault:
                faults.append(f"{path} {fault}")
        if faults:
            return bad(*faults, remedy=f"chmod go= {self._directory}/{{*.key,token-secret}}")
        return good()


def issuer_check(path: Path) -> Check:
    """Return the check of an issuer's socket."""

    def look() -> Finding:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            try:
                probe.connect(str(path))
            except OSError as error:
                return bad(
                    f"{path}: {error.strerror or error}",
                    remedy=f"start it: pillion identity serve --socket {path}",
                )
        return good(str(path))

    return Check("issuer-answers", "the issuer listens on its socket", look)


@final
class WorkloadChecks:
    """The identity directory of one workload."""

    def __init__(self, directory: Path, trust_domain: str, now: float) -> None:
        self._material = Material(directory)
        self._trust_domain = trust_domain
        self._now = now

    def __iter__(self) -> Iterator[Check]:
        yield Check(
            "identity-anchors",
            f"the workload has usable anchors of {self._trust_domain}",
            self._anchors,
        )
        if not os.access(self._material.directory, os.R_OK | os.X_OK):
            return
        yield Check("identity-private", "its key is the sidecar's alone", self._private)
        if self._material.chain.exists():
            yield Check("identity-leaf", "its certificate is in force", self._leaf)

    def _anchors(self) -> Finding:
        directory = self._material.directory
        if directory.is_dir() and not os.access(directory, os.R_OK | os.X_OK):
            return warning(
                f"{directory} is its sidecar's alone",
                remedy="run this check as root, or as the sidecar's user",
            )
        remedy = f"copy the authority's anchors to {self._material.anchors}"
        try:
            anchors = load_anchors(self._material.anchors, self._trust_domain)
        except IdentityError as error:
            return bad(str(error), remedy=remedy)
        if anchors.problems:
            return warning(*anchors.problems, remedy=remedy)
        return good(f"{sum(map(len, anchors.roots.values()))} in {self._material.anchors}")

    def _private(self) -> Finding:
        directory = self._material.directory
        faults = []
        for path in (self._material.key, self._material.token):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            fault = exposure(found, found.st_uid, {found.st_gid})
            if fault:
                faults.append(f"{path} {fault}")
        if faults:
            return bad(*faults, remedy=f"chmod 600 {directory}/key.pem {directory}/token")
        return good()

    def _leaf(self) -> Finding:
        found, problems = describe(self._material.chain)
        over = [each for each in found if each.state(self._now) != "valid"]
        said = [f"{', '.join(each.names)}: {each.state(self._now)}" for each in over]
        if problems or over:
            remedy = "have it renewed by whoever rotates it; see the clock, too"
            return bad(*problems, *said, remedy=remedy)
        return good(f"{', '.join(found[0].names)} until {utc_text(found[0].not_after)}")
