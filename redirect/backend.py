"""The back ends that capture can use, and which programs speak to each. Pure.

Modes and the order of fallback are those of Linkerd's proxy-init; ``nftables``, a plain ruleset
in a table of our own, is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, final

from core.errors import ConfigError
from core.record import dataclass
from redirect.rule import Family


class Mode(Enum):
    """What capture rules are installed with."""

    NFT = "nft"
    """``iptables-nft``: the programs of iptables on the kernel's nf_tables."""
    LEGACY = "legacy"
    """``iptables-legacy``, on the kernel's older x_tables."""
    PLAIN = "plain"
    """``iptables``, whatever that is here."""
    NFTABLES = "nftables"
    """``nft``, with a table of our own."""


FALLBACKS: Final = (Mode.NFT, Mode.PLAIN, Mode.LEGACY)
"""What is tried, in this order and for each family, where the asked programs are missing."""
WAIT_S: Final = 5
"""How long others that change rules at the same time are waited for."""
_MIDDLE: Final = {Mode.NFT: "-nft", Mode.LEGACY: "-legacy", Mode.PLAIN: ""}


@final
@dataclass(frozen=True, slots=True)
class Tables:
    """The programs of one iptables back end, for one family."""

    mode: Mode
    family: Family

    @property
    def program(self) -> str:
        """The program's name, which is also what the back end is called."""
        base = "iptables" if self.family is Family.IPV4 else "ip6tables"
        return base + _MIDDLE[self.mode]

    @property
    def restore(self) -> tuple[str, ...]:
        """The command that takes a rendered input: it empties nothing unasked."""
        return (f"{self.program}-restore", "-w", str(WAIT_S), "--noflush")

    @property
    def save(self) -> tuple[str, ...]:
        """The command that prints the table."""
        return (f"{self.program}-save", "-t", "nat")

    def drop(self, chain: str) -> tuple[str, ...]:
        """Return the command that takes away a chain that holds nothing."""
        return (self.program, "-w", str(WAIT_S), "-t", "nat", "-X", chain)

    @property
    def nft_table(self) -> str:
        """What nft calls the table, if it is one of nf_tables."""
        return "ip nat" if self.family is Family.IPV4 else "ip6 nat"

    def is_there(self, exists: Callable[[str], bool]) -> bool:
        """Whether both programs that rules need exist."""
        return exists(self.restore[0]) and exists(self.save[0])


def choose_tables(mode: Mode, family: Family, exists: Callable[[str], bool]) -> Tables:
    """Return the programs to use for ``family``: those of ``mode``, else the first fallback.

    Raises ConfigError when there are none.
    """
    for each in dict.fromkeys((mode, *FALLBACKS)):
        if each is not Mode.NFTABLES:
            tables = Tables(each, family)
            if tables.is_there(exists):
                return tables
    wanted = ", ".join(Tables(each, family).restore[0] for each in FALLBACKS)
    raise ConfigError(
        f"no program that sets {family} capture rules was found on PATH: none of {wanted}",
        hint="install it: apt-get install iptables",
    )
