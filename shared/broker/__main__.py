"""What deploying a farm needs of its broker: its files, and the queues of a super-network and of a search.

python -m shared.broker generate DIRECTORY
python -m shared.broker add amqp://... --credentials FILE --supernet DIRECTORY --search NAME
python -m shared.broker remove amqp://... --credentials FILE --search NAME
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path

from shared.broker.address import BrokerAddress
from shared.broker.protocol import requests_queue, results_queue
from shared.broker.rabbitmq import add_queues, remove_queues
from shared.broker.topology import definitions, kept_passwords, server_configuration
from shared.digest import DIGEST_CHARACTERS
from shared.environment import prepare_environment
from shared.errors import UserError
from shared.failure_policy import SETTLE_SECONDS
from shared.files import write_atomically
from shared.manifest import SupernetManifest
from shared.text import one_line

DIGEST = re.compile(f"[0-9a-f]{{{DIGEST_CHARACTERS}}}")


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns the exit code: 2 with one line on stderr for an error of the user's."""
    prepare_environment()
    options = _parser().parse_args(arguments)
    try:
        if options.command == "generate":
            _generate(options)
        else:
            _change_queues(options)
    except UserError as error:
        print(one_line(str(error)), file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shared.broker", description="Prepare the broker of a farm.")
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser("generate", help="write definitions.json, rabbitmq.conf and credentials/USER")
    generate.add_argument("directory", type=Path)
    generate.add_argument("--listen", default="127.0.0.1:5672", help="address:port, or a port alone for all addresses")
    generate.add_argument("--server-directory", help="where the server sees the directory, if not there")
    generate.add_argument("--tls", action="store_true", help="with tls/{ca,certificate,key}.pem of the directory")
    for command, what in (("add", "add the queues"), ("remove", "delete the queues, with what is in them,")):
        queues = commands.add_parser(command, help=f"{what} of super-networks and searches")
        queues.add_argument("broker", help="amqp://host/vhost or amqps://host/vhost")
        queues.add_argument("--credentials", type=Path, help="the operator's file, user:password")
        queues.add_argument("--authority", type=Path, help="certificates (PEM) of who may sign the broker's")
        queues.add_argument(
            "--supernet", action="append", default=[], help="directory of a super-network, or its digest"
        )
        queues.add_argument("--search", action="append", default=[], help="name of a search")
    return parser


def _generate(options: argparse.Namespace) -> None:
    directory: Path = options.directory.resolve()
    seen = options.server_directory or str(directory)
    passwords = kept_passwords(directory / "credentials")
    write_atomically(directory / "definitions.json", json.dumps(definitions(passwords), indent=2) + "\n")
    tls = f"{seen}/tls" if options.tls else None
    configuration = server_configuration(f"{seen}/definitions.json", options.listen, tls)
    write_atomically(directory / "rabbitmq.conf", configuration)


def _change_queues(options: argparse.Namespace) -> None:
    names = [requests_queue(_digest(supernet)) for supernet in options.supernet]
    names += [results_queue(name) for name in options.search]
    if not names:
        raise UserError(f"{options.command}: name a super-network (--supernet) or a search (--search)")
    address = BrokerAddress.parse(options.broker, options.credentials, options.authority)
    if options.command == "remove":
        remove_queues(address, names)
    else:
        add_queues(address, names)
        time.sleep(SETTLE_SECONDS)


def _digest(supernet: str) -> str:
    """The digest of a super-network, of which its directory or that digest was given."""
    return supernet if DIGEST.fullmatch(supernet) else SupernetManifest.read(Path(supernet)).digest


if __name__ == "__main__":
    sys.exit(main())
