"""``edgeagent check-config``: says everything that is wrong with site.toml, at once; brings an older one forward."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeagent import texts
from edgeagent.cli.declare import Commands, command, flag
from edgeagent.config.site import load


def add(commands: Commands) -> None:
    """Declare the command."""
    flag(command(commands, "check-config", main), "check-config", "--migrate")


def main(arguments: argparse.Namespace) -> int:
    """Load the file; what is wrong with it is raised as a ConfigError."""
    done = migrate(arguments.site) if arguments.migrate else []
    site = load(arguments.site)
    paths = ", ".join(path.name for path in site.paths)
    print("\n".join([*done, texts.screen("config ok", file=str(arguments.site), site=site.id, paths=paths)]))
    return 0


def migrate(file: Path) -> list[str]:
    """Rewrite it to the current format if it is older; the lines that say what has changed."""
    from edgeagent.config import migrations

    done = migrations.migrate(file, migrations.MIGRATIONS)
    if done.copy is None:
        return [texts.screen("config current", file=str(file), format=done.after)]
    copy = str(done.copy)
    said = [texts.screen("config migrated", file=str(file), before=done.before, after=done.after, copy=copy)]
    for one in done.differences:
        code = "key added" if one.before is None else "key removed" if one.after is None else "key changed"
        said.append(texts.screen(code, key=one.key, before=one.before, after=one.after))
    return said
