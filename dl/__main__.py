"""``python -m dl`` is the ``dl`` command."""

from dl.cli.main import main

main()
