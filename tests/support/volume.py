"""A mounted ConfigMap or Secret: files are links into a version, exchanged in one stroke."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import final


@final
class Volume:
    """What the kubelet does with a volume's files (its atomic writer)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._versions = 0
        directory.mkdir(parents=True, exist_ok=True)

    def publish(self, files: Mapping[str, bytes], mode: int = 0o400) -> None:
        """Exchange all files at once; the version before is removed afterwards."""
        self._versions += 1
        version = self.directory / f"..v{self._versions}"
        for name, data in files.items():
            path = version / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(mode)
        draft = self.directory / "..data_tmp"
        draft.symlink_to(version.name)
        draft.rename(self.directory / "..data")
        tops = {Path(name).parts[0] for name in files}
        for top in tops:
            link = self.directory / top
            if not link.is_symlink():
                link.symlink_to(Path("..data", top))
        for entry in self.directory.iterdir():
            if entry.is_symlink() and entry.name != "..data" and entry.name not in tops:
                entry.unlink()
        shutil.rmtree(self.directory / f"..v{self._versions - 1}", ignore_errors=True)
