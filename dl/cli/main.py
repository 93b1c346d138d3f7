"""The ``dl`` command."""

import contextlib
import inspect
import os
import re
import shlex
import sys
from collections.abc import Iterator

import tyro

import dl
from dl.cli.arguments import check_locale
from dl.cli.errors import plain_errors
from dl.core.errors import UserError, unknown

TAKE_FLAGS = (
    "plan",
    "submit",
    "verify",
    "data",
)  # commands after whose -- a script's own flags follow


def main() -> None:
    """The ``dl`` command."""
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    words = sys.argv[1:end] or ["--help"]
    if words == ["--version"]:
        print(f"dl {dl.__version__}")
        return
    with plain_errors(), _flags_after_dashes(words):
        if os.path.lexists("matplotlibrc"):
            # Of the current folder, maybe a stranger's: it could have figures start LaTeX, or fill the memory.
            with contextlib.chdir("/"):
                import matplotlib  # noqa: F401  (which reads its settings now)
        from dl.cli.commands import COMMANDS

        check_locale(sys.argv)
        if words[0] not in COMMANDS and not words[0].startswith("-"):
            raise unknown("command", words[0], COMMANDS)
        if (
            end + 1 < len(sys.argv)
            and words[0] in COMMANDS
            and words[0] not in (*TAKE_FLAGS, "run")
        ):
            raise UserError(
                "option-misplaced",
                f"dl {words[0]} takes no flags of a script: leave -- and what follows it out",
            )
        if words[0] == "run" and words[1:2] and not words[1].startswith("-"):
            words = words[:2]  # the rest is the script's
        if words[0] == "runs":  # a value may begin with a minus
            words = re.sub(r"(^|\0)(--sort|--best)\0-(?!-)", r"\1\2=-", "\0".join(words)).split(
                "\0"
            )
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            args=words,
            prog="dl",
            description="A functional deep-learning research toolkit in JAX.",
        )


@contextlib.contextmanager
def _flags_after_dashes(words: list[str]) -> Iterator[None]:
    """Where a script's own flags were given to `dl plan` or `dl verify`, say where they belong."""
    try:
        yield
    except SystemExit as left:
        if left.code == 2 and len(words) > 2 and words[0] in TAKE_FLAGS:
            own, script = _told_apart(words)
            if script:
                after = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
                meant = shlex.join(["dl", *own, "--", *script, *after])
                print(f"the script's own flags follow after --: {meant}", file=sys.stderr)
        raise


def _told_apart(words: list[str]) -> tuple[list[str], list[str]]:
    """The words of a command, and those that it has no flag for, with their values."""
    from dl.cli.commands import COMMANDS

    names = inspect.signature(COMMANDS[words[0]]).parameters
    known = {"--" + name.replace("_", "-") for name in names} | {"-h", "--help"}
    own: list[str] = []
    others: list[str] = []
    into = own
    for word in words:
        if word.startswith("-"):
            flag = word.partition("=")[0].replace("_", "-")
            into = own if {flag, flag.replace("--no-", "--", 1)} & known else others
        into.append(word)
    return own, others
