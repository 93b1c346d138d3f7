"""The command line."""


def dl() -> None:
    """The ``dl`` command, under the name that programs of before it had a module of its own call it by."""
    from dl.cli.main import main

    main()
