"""A farm's commands, which `make` calls.

python -m deploy.farm farm|deploy [--search SEARCH.yaml] [--evaluators N] [--port PORT] [--profile cpu|gpu]
python -m deploy.farm scale --evaluators N
python -m deploy.farm status|logs|down|destroy
"""

import argparse
import os
import sys
from pathlib import Path

from deploy.farm import commands
from deploy.farm.state import BackendName, FarmDirectory
from shared.environment import prepare_environment
from shared.errors import UserError
from shared.text import one_line

INTERRUPTED = 130
BACKENDS: dict[str, BackendName] = {"farm": "processes", "deploy": "containers"}


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns the exit code: 2 with one line on stderr for what the user can change."""
    prepare_environment()
    options = _parser().parse_args(arguments)
    directory = FarmDirectory(Path(".farm").absolute(), Path("runs").absolute())
    try:
        match options.command:
            case "farm" | "deploy":
                up = BACKENDS[options.command]
                changes = {key: getattr(options, key, None) for key in ("evaluators", "port", "profile")}
                commands.bring_up(directory, up, options.search, **changes)
            case "scale":
                commands.scale(directory, options.evaluators)
            case _:
                getattr(commands, options.command)(directory)
    except UserError as error:
        print(f"farm: {one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupted:
        print(f"\nfarm: {str(interrupted) or 'interrupted; the same command continues'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # who read what we print has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.farm", description="A farm on this machine.")
    chosen = parser.add_subparsers(dest="command", required=True)
    for command, what in (("farm", "as processes"), ("deploy", "in containers")):
        up = chosen.add_parser(command, help=f"bring a farm up {what}, or add a search to it")
        up.add_argument("--search", type=Path, help="the search file; default: its unfinished searches, or the example")
        up.add_argument("--evaluators", type=_evaluators, help="of each super-network")
        up.add_argument("--port", type=_port, help="of the broker, on 127.0.0.1")
        if command == "deploy":
            up.add_argument("--profile", choices=["cpu", "gpu"])
    scale = chosen.add_parser("scale", help="change the number of evaluators")
    scale.add_argument("--evaluators", type=_evaluators, required=True, help="of each super-network")
    for command, what in (
        ("status", "show how far it is"),
        ("logs", "follow the logs"),
        ("down", "stop it; its data are kept"),
        ("destroy", "stop it and remove its data; runs and super-networks stay"),
    ):
        chosen.add_parser(command, help=what)
    return parser


def _evaluators(text: str) -> int:
    return _whole(text, range(1001))


def _port(text: str) -> int:
    return _whole(text, range(1, 65536))


def _whole(text: str, allowed: range) -> int:
    if not text.isdecimal() or int(text) not in allowed:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {allowed[0]} to {allowed[-1]}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
