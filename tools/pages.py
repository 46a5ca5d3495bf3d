"""Write the pages of docs/ that are made from tables in the code: ``python -m tools.pages``.

A test compares each page with its table, so neither can be changed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from proxy.config import LINKERD_PREFIX, PREFIX, TABLE
from proxy.elsewhere import ELSEWHERE
from proxy.setting import Setting
from proxy.telemetry.exposition import PROCESS
from proxy.telemetry.metric import LABEL_SETS, Metrics
from proxy.telemetry.slot import MAX_CHILDREN, Described, HistogramFamily

ROOT: Final = Path(__file__).resolve().parent.parent

_CONFIGURATION: Final = f"""\
# Configuration

The sidecar (`pillion proxy`) is configured by its environment, once, at its start. This page is
made from the table in `proxy/config.py` by `make docs`.

- An empty value is the same as none: the default counts.
- Where the meaning is the same, Linkerd's name (`{LINKERD_PREFIX}…`) is taken too; ours wins, then
  the first in its cell that is set. A value of Linkerd's that cannot be read is a mistake like any
  other.
- Every mistake is reported, not only the first, and the exit status is 2. A name that begins with
  `{PREFIX}` and is not in the table is a mistake, and the nearest name is offered.
- Durations are an integer and a unit, as in Linkerd: `300ms`, `10s`, `2m`, `1h`, `1d`; `0` needs
  none.
- `/config` of the admin server shows what the sidecar runs with.

| setting | type | unit | default | Linkerd's name | what it decides |
|---|---|---|---|---|---|
"""

_ELSEWHERE: Final = f"""
## Linkerd's other names

A pod that Linkerd's injector has prepared carries many more names. They are no mistake: names
without a meaning here are listed once, at the start, by the event `settings ignored`. These matter,
and are decided elsewhere:

| Linkerd's name | read instead |
|---|---|
| `{LINKERD_PREFIX}IDENTITY_DISABLED` | nothing: no mesh without identity; set, it is a mistake |
"""

_REST: Final = """
## Colors

Logs have colors on a terminal. `NO_COLOR`, set and not empty, takes them away, `FORCE_COLOR` brings
them where there is no terminal; `NO_COLOR` wins.
"""


_METRICS: Final = f"""\
# Metrics

`GET /metrics` on the admin port (4191), in Prometheus' text format. Names and labels are Linkerd's,
so that its dashboards and alerts work; what Linkerd has no name for begins with `pillion_`, in
seconds and bytes. This page is made from the table in `proxy/telemetry/metric.py` by `make docs`.

A family keeps {MAX_CHILDREN:,} label sets; whatever is new after that is counted under one whose
labels all say `other`, and `pillion_metric_folds_total` says so. No counter ever vanishes.

Error labels are the codes of [errors.md](errors.md), but for the families of outbound routes and
backends, which have Linkerd's words: `FAIL_FAST`, `LOAD_SHED`, `CANCEL`, `RESET`, `IO`, `UNKNOWN`.

A request is a failure when an error took its response's place or broke it off; else by its gRPC
status (2, 4, 7, 13, 14 and 15 are failures); without one when HTTP's is 500 or more. A client that
leaves early is none. One object's responses are told apart in 64 ways; what is new after that has
the status `other`.

| family | type | labels | what it says |
|---|---|---|---|
"""

_SETS: Final[Mapping[str, str]] = {
    "TARGET": "where the connection was going, or the endpoint that was dialled",
    "TLS_ACCEPT": "`true` and the client's identity; `no_identity` and why (`no_tls_from_remote`, "
    "`port_skipped`, `loopback`); `opaque` and the SNI of TLS that is not for us",
    "TLS_CONNECT": "`true` and the server's identity; `no_identity` and why "
    "(`not_provided_by_service_discovery`, `loopback`)",
    "SRV": "the Server, or the default policy, that the port belongs to",
    "AUTHZ": "the authorization that admitted",
    "PARENT": "the Service, or the default, that the destination belongs to",
    "ROUTE": "the route that was taken",
    "DST": "what discovery knows of the endpoint: pod, workload, zone, …",
    "INBOUND_ROUTE": "the route of the Server that the request matched, or the default",
    "SRV_PARENT": "the Server, as SRV names it",
    "BACKEND": "what the route sends to",
    "CLASS": "how a request ended: HTTP's status, `success` or `failure`, gRPC's status, and the "
    "code of the error that took the response's place or broke it off",
    "RATELIMIT": "the rate limit that was reached, and whether it was the `total` or an "
    "`identity`'s",
}
"""What is said of each set of labels."""

_FRAGMENTS: Final = """
## Labels that stand together

| set | labels | what it says |
|---|---|---|
"""

_PROCESS: Final = """
## The process

| family | type | labels | what it says |
|---|---|---|---|
"""


def render_metrics() -> str:
    """Return docs/metrics.md."""
    families = [_row(_family_cells(each)) for each in Metrics().families()]
    fragments = [
        _row((name, " ".join(f"`{label}`" for label in labels), _SETS[name]))
        for name, labels in LABEL_SETS.items()
    ]
    process = [_row(_family_cells(each)) for each in PROCESS]
    return "".join([_METRICS, *families, _FRAGMENTS, *fragments, _PROCESS, *process])


def _family_cells(family: Described) -> Iterable[str]:
    yield f"`{family.name}`"
    yield family.kind
    yield " ".join(each if each in LABEL_SETS else f"`{each}`" for each in family.labels)
    if isinstance(family, HistogramFamily):
        bounds = " ".join(f"{bound:g}" for bound in family.bounds)
        yield f"{family.documentation} Buckets: {bounds}."
    else:
        yield family.documentation


def render_configuration() -> str:
    """Return docs/configuration.md."""
    rows = [_row(_setting_cells(row)) for row in TABLE]
    elsewhere = [_row((f"`{LINKERD_PREFIX}{name}`", text)) for name, text in ELSEWHERE.items()]
    return "".join([_CONFIGURATION, *rows, _ELSEWHERE, *elsewhere, _REST])


def _setting_cells(row: Setting[object]) -> Iterable[str]:
    yield f"`{PREFIX}{row.name}`"
    yield row.form.name
    yield row.form.unit
    yield f"`{row.default}`" if row.default else "**required**" if row.required else "none"
    yield " ".join(f"`{LINKERD_PREFIX}{alias}`" for alias in row.aliases)
    yield row.reason


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "docs/configuration.md": render_configuration,
    "docs/metrics.md": render_metrics,
}
"""Page → what renders it."""


def main() -> None:
    """Write every page."""
    for path, render in PAGES.items():
        (ROOT / path).write_text(render())


if __name__ == "__main__":
    main()
