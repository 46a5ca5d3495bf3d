"""``pillion redirect``: the capture rules of a pod, as its init container installs them."""

from __future__ import annotations

from typing import Final

import click

from cli.output import Form, Json, output_option, write
from core.errors import ConfigError
from redirect import iptables, nftables
from redirect.backend import Mode
from redirect.options import (
    DEFAULT_SKIP_PORTS,
    INBOUND_PORT,
    OUTBOUND_PORT,
    PROXY_UID,
    SIDECAR_PORTS,
    CaptureOptions,
    parse_options,
)
from redirect.rule import Rule
from redirect.runner import (
    Standing,
    Step,
    install_rules,
    plan_install,
    plan_remove,
    read_rules,
    remove_rules,
)

_CHAINS: Final = {
    "inbound": (iptables.INBOUND_CHAIN, nftables.INBOUND_CHAIN),
    "outbound": (iptables.OUTBOUND_CHAIN, nftables.OUTBOUND_CHAIN),
}
"""Direction → its chain, as iptables and as nft call it."""
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
@click.option(
    "--iptables-mode",
    "mode",
    type=click.Choice([each.value for each in Mode]),
    default=Mode.NFT.value,
    show_default=True,
    help="iptables-nft, iptables-legacy or iptables; or nft with a table of our own. Where its "
    "programs are missing: nft, then plain, then legacy.",
)
@click.option("--ipv6/--no-ipv6", default=True, show_default=True, help="Capture IPv6 too.")
@_DRY_RUN
@output_option
def install(*, mode: str, ipv6: bool, dry_run: bool, form: Form, **texts: str) -> None:
    """Install the rules; running it again leaves the same rules."""
    options = parse_options(**texts)
    if not ipv6:
        options = options.without_ipv6()
    if dry_run:
        _print_plan(plan_install(options, Mode(mode), _standing_or_nothing()), form)
        return
    standing = install_rules(options, Mode(mode))
    _print_rules(standing, form)
    click.echo(_summary(options, standing), err=True)


@command.command()
@_DRY_RUN
@output_option
def remove(*, dry_run: bool, form: Form) -> None:
    """Remove the rules; nothing of them stays."""
    if dry_run:
        _print_plan(plan_remove(read_rules()), form)
        return
    gone = remove_rules()
    count = sum(len(each.found.rules) for each in gone)
    if form is not Form.TABLE:
        data: Json = {"removed": [_plain(rule, each) for each in gone for rule in each.found.rules]}
        write(form, data, table=str, short=lambda: str(count))
    click.echo(
        f"{count} capture rules removed ({', '.join(each.backend for each in gone)})"
        if gone
        else "there were no capture rules",
        err=True,
    )


@command.command()
@output_option
def show(form: Form) -> None:
    """Show the rules that are installed here."""
    standing = read_rules()
    _print_rules(standing, form)
    if not standing:
        click.echo("no capture rules here; `pillion redirect install` sets them", err=True)
    for each in standing:
        if not each.found.installed:
            click.echo(
                f"the rules of {each.backend} are incomplete: one direction is not captured; "
                "`pillion redirect install` repairs them",
                err=True,
            )


def _standing_or_nothing() -> tuple[Standing, ...]:
    # A dry run is of use where rules can be neither read nor set: in a review, on a laptop.
    try:
        return read_rules()
    except ConfigError as error:
        click.echo(f"as on a pod without rules, because: {error}", err=True)
        return ()


def _print_plan(steps: tuple[Step, ...], form: Form) -> None:
    if not steps:
        click.echo("nothing to do: there are no capture rules", err=True)
    data: Json = {
        "steps": [
            {
                "command": step.command,
                "input": step.given,
                "rules": [_plain(rule) for rule in step.rules],
            }
            for step in steps
        ]
    }
    if steps or form in {Form.JSON, Form.YAML}:
        text = "\n".join(f"{' '.join(step.command)} <<'END'\n{step.given}END" for step in steps)
        whole = "\n".join(step.given.strip() for step in steps)
        write(form, data, table=lambda: text, short=lambda: whole)


def _print_rules(standing: tuple[Standing, ...], form: Form) -> None:
    installed = bool(standing) and all(each.found.installed for each in standing)
    data: Json = {
        "installed": installed,
        "backends": [each.backend for each in standing],
        "rules": [_plain(rule, each) for each in standing for rule in each.found.rules],
    }
    if standing or form is not Form.TABLE:
        said = "installed" if installed else "not installed"
        text = "\n".join(_table(each) for each in standing)
        write(form, data, table=lambda: text, short=lambda: said)


def _table(standing: Standing) -> str:
    rules = standing.found.rules
    families = " and ".join(str(family) for family in standing.families)
    lines = [f"{standing.backend}, {families}"]
    width = max((len(rule.match) for rule in rules), default=0)
    for direction, chains in _CHAINS.items():
        origin = ", ".join(rule.chain for rule in rules if rule.target in chains)
        name = chains[0] if standing.tables is not None else chains[1]
        missing = standing.tables is not None and not origin
        said = "nothing → " if missing else f"{origin} → " if origin else ""
        lines.append(f"  {direction:<10}{said}{name}")
        lines += [
            f"    {rule.match or 'all':<{width}}  {rule.target}"
            for rule in rules
            if rule.chain in chains
        ]
    return "\n".join(lines)


def _plain(rule: Rule, standing: Standing | None = None) -> dict[str, str]:
    where = {} if standing is None else {"backend": standing.backend}
    return {
        **where,
        "chain": rule.chain,
        "match": rule.match,
        "target": rule.target,
        "comment": rule.comment,
    }


def _summary(options: CaptureOptions, standing: tuple[Standing, ...]) -> str:
    skipped_in = ", ".join(str(entry) for entry in options.skip_inbound)
    clients = ", ".join(str(subnet) for subnet in options.skip_subnets)
    ports = ", ".join(str(entry) for entry in options.skip_outbound)
    return (
        f"capture by {' and '.join(each.backend for each in standing)}:"
        f" inbound to {options.inbound_port}"
        f" (but for ports {skipped_in}{f'; clients in {clients}' if clients else ''}),"
        f" outbound to {options.outbound_port}"
        f" (but for uid {options.proxy_uid}, loopback{f', ports {ports}' if ports else ''})"
    )
