"""Which programs are used: the order in which proxy-init looks for them."""

from __future__ import annotations

import pytest

from core.errors import ConfigError
from redirect.backend import Mode, choose_tables
from redirect.rule import Family


@pytest.mark.parametrize(
    ("mode", "here", "chosen"),
    [
        (Mode.NFT, ["-nft", "-legacy", ""], "iptables-nft"),
        (Mode.LEGACY, ["-nft", "-legacy", ""], "iptables-legacy"),
        (Mode.PLAIN, ["-nft", "-legacy", ""], "iptables"),
        (Mode.LEGACY, ["-nft", ""], "iptables-nft"),
        (Mode.LEGACY, [""], "iptables"),
        (Mode.NFT, ["-legacy", ""], "iptables"),
        (Mode.NFT, ["-legacy"], "iptables-legacy"),
        (Mode.NFTABLES, ["-nft", "-legacy", ""], "iptables-nft"),
    ],
)
def test_missing_programs_are_replaced_in_order(mode: Mode, here: list[str], chosen: str) -> None:
    """What was asked for, else nft, plain, legacy; each family for itself."""
    for family, base in ((Family.IPV4, "iptables"), (Family.IPV6, "ip6tables")):
        programs = {f"{base}{each}-{verb}" for each in here for verb in ("save", "restore")}
        assert choose_tables(mode, family, programs.__contains__).program == chosen.replace(
            "iptables", base
        )


@pytest.mark.parametrize("family", Family)
def test_without_any_the_package_is_named(family: Family) -> None:
    """The message names what was looked for, the advice what to install."""
    programs = {"iptables-nft-save", "ip6tables-legacy-restore"}
    with pytest.raises(ConfigError, match=f"sets {family} capture rules") as caught:
        choose_tables(Mode.NFT, family, programs.__contains__)
    assert "apt-get install iptables" in caught.value.hint
