"""``pillion redirect``: the capture rules of a pod, as its init container installs them."""

from __future__ import annotations

from typing import Final

import click

from cli.output import Form, Json, output_option, write
from core.errors import ConfigError
from redirect.iptables import (
    INBOUND_CHAIN,
    OUTBOUND_CHAIN,
    Found,
    Rule,
    build_rules,
    render_install,
    render_remove,
)
from redirect.options import (
    DEFAULT_SKIP_PORTS,
    INBOUND_PORT,
    OUTBOUND_PORT,
    PROXY_UID,
    SIDECAR_PORTS,
    CaptureOptions,
    parse_options,
)
from redirect.runner import BACKEND, RESTORE, install_rules, read_rules, remove_rules

_DRY_RUN: Final = click.option(
    "--dry-run", is_flag=True, help="Print what would be run, and change nothing."
)


@click.group()
def command() -> None:
    """Capture a pod's TCP connections for its sidecar (needs NET_ADMIN)."""


@command.command()
@click.option("--proxy-uid", default=str(PROXY_UID), show_default=True, help="The sidecar's user.")
@click.option("--proxy-gid", default="", help="The sidecar's group, where it has its own.")
@click.option("--inbound-port", default=str(INBOUND_PORT), show_default=True)
@click.option("--outbound-port", default=str(OUTBOUND_PORT), show_default=True)
@click.option(
    "--skip-inbound-ports",
    default=DEFAULT_SKIP_PORTS,
    show_default=True,
    help="Ports, or ranges lo-hi, left to the app; the sidecar's own "
    f"{' and '.join(str(port) for port in SIDECAR_PORTS)} always are.",
)
@click.option(
    "--skip-outbound-ports",
    default=DEFAULT_SKIP_PORTS,
    show_default=True,
    help="Destination ports, or ranges lo-hi, that the app reaches by itself.",
)
@click.option("--skip-subnets", default="", help="Clients that reach the app by themselves.")
@_DRY_RUN
@output_option
def install(*, dry_run: bool, form: Form, **texts: str) -> None:
    """Install the rules; running it again leaves the same rules."""
    options = parse_options(**texts)
    if dry_run:
        found = _found_or_nothing()
        _print_plan(render_install(options, found), build_rules(options), form)
        return
    found = install_rules(options)
    _print_rules(found, form)
    click.echo(_summary(options), err=True)


@command.command()
@_DRY_RUN
@output_option
def remove(*, dry_run: bool, form: Form) -> None:
    """Remove the rules; nothing of them stays."""
    if dry_run:
        _print_plan(render_remove(read_rules()), (), form)
        return
    gone = remove_rules()
    if form is not Form.TABLE:
        data: Json = {"backend": BACKEND, "removed": [_plain(rule) for rule in gone]}
        write(form, data, table=str, short=lambda: str(len(gone)))
    click.echo(
        f"{len(gone)} capture rules removed" if gone else "there were no capture rules", err=True
    )


@command.command()
@output_option
def show(form: Form) -> None:
    """Show the rules that are installed here."""
    found = read_rules()
    _print_rules(found, form)
    if not found.rules:
        click.echo("no capture rules here; `pillion redirect install` sets them", err=True)
    elif not found.installed:
        click.echo(
            "the rules are incomplete: one direction has no jump to its chain; "
            "`pillion redirect install` repairs them",
            err=True,
        )


def _found_or_nothing() -> Found:
    # A dry run is of use where rules can be neither read nor set: in a review, on a laptop.
    try:
        return read_rules()
    except ConfigError as error:
        click.echo(f"as on a pod without rules, because: {error}", err=True)
        return Found()


def _print_plan(plan: str, rules: tuple[Rule, ...], form: Form) -> None:
    if not plan:
        click.echo("nothing to do: there are no capture rules", err=True)
    data: Json = {
        "backend": BACKEND,
        "command": RESTORE,
        "input": plan,
        "rules": [_plain(rule) for rule in rules],
    }
    if plan or form in {Form.JSON, Form.YAML}:
        text = f"# {' '.join(RESTORE)} <<END\n{plan}# END"
        write(form, data, table=lambda: text, short=plan.strip)


def _print_rules(found: Found, form: Form) -> None:
    data: Json = {
        "backend": BACKEND,
        "installed": found.installed,
        "rules": [_plain(rule) for rule in found.rules],
    }
    if found.rules or form is not Form.TABLE:
        said = "installed" if found.installed else "not installed"
        write(form, data, table=lambda: _table(found.rules), short=lambda: said)


def _table(rules: tuple[Rule, ...]) -> str:
    lines = []
    width = max(len(rule.match) for rule in rules)
    for direction, chain in (("inbound", INBOUND_CHAIN), ("outbound", OUTBOUND_CHAIN)):
        origin = ", ".join(rule.chain for rule in rules if rule.target == chain)
        lines.append(f"{direction:<10}{origin or 'nothing'} → {chain}")
        lines += [
            f"  {rule.match or 'all':<{width}}  {rule.target}"
            for rule in rules
            if rule.chain == chain
        ]
    return "\n".join(lines)


def _plain(rule: Rule) -> dict[str, str]:
    return {
        "chain": rule.chain,
        "match": rule.match,
        "target": rule.target,
        "comment": rule.comment,
    }


def _summary(options: CaptureOptions) -> str:
    skipped_in = ", ".join(str(entry) for entry in options.skip_inbound)
    clients = ", ".join(str(subnet) for subnet in options.skip_subnets)
    ports = ", ".join(str(entry) for entry in options.skip_outbound)
    return (
        f"capture by {BACKEND}: inbound to {options.inbound_port}"
        f" (but for ports {skipped_in}{f'; clients in {clients}' if clients else ''}),"
        f" outbound to {options.outbound_port}"
        f" (but for uid {options.proxy_uid}, loopback{f', ports {ports}' if ports else ''})"
    )
