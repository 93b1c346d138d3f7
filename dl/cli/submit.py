"""`dl submit`: scripts as jobs of a SLURM cluster, which go on where they were when they are queued again."""

import contextlib
import itertools
import math
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from dl.cli.arguments import parse, unnamed
from dl.cli.flags import extra
from dl.core.errors import UserError, bounded, need, one_line

LONGEST = 24 * 365.0  # hours
STOPPED = 128 + signal.SIGTERM  # how a run ends that SIGTERM stopped, all saved


class Job:
    """A process of one run, which begins it or goes on with it; as submitit wants it, to be pickled."""

    def __init__(self, command: list[str]):
        self.command, self.child = command, 0

    def __call__(self) -> int:
        # SLURM's warning comes to all processes of a job. It is for this one; the run knows SIGTERM alone.
        child = subprocess.Popen(
            self.command,
            env=os.environ | self._each_other(),
            preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
        )
        self.child = child.pid
        while (code := child.poll()) is None:
            time.sleep(0.2)
        place = os.environ.get("SLURM_PROCID") or os.environ.get("SUBMITIT_LOCAL_GLOBALID", "0")
        if code and not (code == STOPPED and place != "0"):
            raise RuntimeError(f"{shlex.join(self.command)} ended with {code}")
        return code

    def checkpoint(self) -> Any:
        """What to queue in place of this, before its time is up; all processes of the run stop when one does."""
        from submitit.helpers import DelayedSubmission

        os.kill(self.child, signal.SIGTERM)
        os.waitid(os.P_PID, self.child, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Job(self.command))

    @staticmethod
    def _each_other() -> dict[str, str]:
        """What tells processes on this machine of each other; SLURM tells its own."""
        count = os.environ.get("SUBMITIT_LOCAL_NTASKS", "1")
        if count == "1":
            return {}
        # Below those that systems give away.
        port = 20_000 + int(os.environ["SUBMITIT_LOCAL_JOB_ID"]) % 12_000
        return {
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": count,
            "JAX_PROCESS_ID": os.environ["SUBMITIT_LOCAL_GLOBALID"],
        }


def submit(
    experiment: Annotated[Path, tyro.conf.Positional],
    partition: str | None = None,
    hours: float = 24.0,
    nodes: int = 1,
    gpus: int = 0,
    cpus: int = 4,
    memory: float | None = None,
    account: str | None = None,
    array: tuple[str, ...] = (),
    requeues: int = 100,
    logs: Path = Path("jobs"),
    here: bool = False,
) -> None:
    """Queue a script on a SLURM cluster: `dl submit gpt --partition gpu --gpus 8 -- --mesh fsdp=8 --bfloat16`.

    When its time is up, or it makes room for others, the run saves, is queued again, and goes on to the same bits.

    Args:
        experiment: the script, or the name of one of `dl list`; its own flags follow after --.
        partition: of the cluster; account: whom it is charged to.
        hours: that a job may take, until it is queued again.
        nodes: machines of each job.
        gpus: of each machine, and as many processes; without any, one process a machine.
        cpus: of each process.
        memory: GB of each machine.
        array: a job for each combination of values, as seed=0,1,2 learning_rate=1e-3,1e-2.
        requeues: how often a job is queued again whose time was up.
        logs: folder for what the jobs print, which all machines see.
        here: carry the jobs out on this machine, one after the other, to try them.
    """
    from dl.runs.folder import called_after, check_name, new_name
    from dl.runs.scripts import command, find_script, load_script
    from dl.sweeps.naming import lane_name

    # Two minutes before its end a job saves.
    bounded("--hours", hours, at_least=0.1, at_most=LONGEST)
    bounded("--memory", memory, above=0, below=math.inf)
    least = {"nodes": (nodes, 1), "gpus": (gpus, 0), "cpus": (cpus, 1), "requeues": (requeues, 0)}
    for name, (value, low) in least.items():
        bounded(f"--{name}", value, at_least=low, whole=True)
    submitit = need("submitit", extra="slurm", why="dl submit")
    script = find_script(experiment).absolute()
    config, build = load_script(script)
    axes = _axes(array)
    hints = get_type_hints(config)
    if here and nodes > 1:
        raise UserError("option-misplaced", "--here is this machine alone: leave --nodes out")
    jobs = []
    for number, own in enumerate(itertools.product(*axes)):
        flags = [w for n, v in own for w in _flags(n, v, hints.get(n.replace("-", "_")))]
        given = [*extra(), *flags]
        # Refuses what the run would.
        chosen, options, wish = parse(config, build, given, script.name)
        options.find_packages()
        options.refuse_processes("what dl submit takes")
        _check_mesh(options.mesh, nodes * gpus)
        what = "sweep" if wish.wanted(chosen) else "run"
        if not number:
            base = options.name or new_name(options.runs, called_after(script, chosen))
        name = f"{base}-{lane_name(number, dict(own))}" if own else base
        check_name(options.runs, name, what, resume=True)
        words = [*command(script), *unnamed(given), "--name", name, "--resume"]
        jobs.append((name, Job(words)))
    parameters: dict[str, Any] = {
        "name": base,
        "timeout_min": max(1, round(60 * hours)),
        "nodes": nodes,
        "tasks_per_node": max(gpus, 1),
        "cpus_per_task": cpus,
        "gpus_per_node": gpus or None,
        "mem_gb": memory,
        "slurm_partition": partition,
        "slurm_account": account,
        "slurm_signal_delay_s": 120,
        "slurm_additional_parameters": {"requeue": True},
    }
    cluster = {"cluster": "local" if here else "slurm", "slurm_max_num_timeout": requeues}
    try:
        executor = submitit.AutoExecutor(folder=logs / "%j", **cluster)
    except RuntimeError as error:
        raise UserError(
            "slurm-missing",
            f"this machine belongs to no SLURM cluster ({_line(error)}): log in to one, or try it with --here",
        ) from None
    executor.update_parameters(**{k: v for k, v in parameters.items() if v is not None})
    if here:
        for name, job in jobs:
            _told(name, sent := executor.submit(job), logs)
            if failed := sent.exception():
                raise UserError(
                    "script-fails", f"{name} failed: see {sent.paths.stderr}"
                ) from failed
            print(f"{name}: done", flush=True)
            with contextlib.suppress(OSError):  # submitit makes this one too, and leaves it empty
                (logs / "%j").rmdir()
        return
    try:
        with executor.batch():
            sents = [executor.submit(job) for _, job in jobs]
    except RuntimeError as error:
        raise UserError("slurm-refuses", f"SLURM refuses the jobs: {_line(error)}") from None
    for (name, _), sent in zip(jobs, sents, strict=True):
        _told(name, sent, logs)


def _axes(array: tuple[str, ...]) -> list[list[tuple[str, str]]]:
    """The fields of ``--array`` and the values of each."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word in array:
        given, _, values = word.partition("=")
        field = given.replace("-", "_")
        if not field or not values:
            raise UserError("sweep-malformed", f"--array {word}: write FIELD=VALUE,VALUE,...")
        if field in found:
            told = f"--array {word}: {field} stands there twice, so give all of its values at once"
            raise UserError("sweep-malformed", told)
        if field in ("name", "resume"):
            told = f"--array {word}: each job has a name of its own already, after --name"
            raise UserError("option-misplaced", told)
        found[field] = [(given, value) for value in values.split(",")]
    return list(found.values())


def _flags(field: str, value: str, hint: Any) -> list[str]:
    """The words of a command line that give a field its value."""
    flag = field.replace("_", "-")
    if hint is bool and value.lower() in ("true", "false"):
        return [f"--{flag}" if value.lower() == "true" else f"--no-{flag}"]
    return [f"--{flag}", value]


def _check_mesh(mesh: str | None, gpus: int) -> None:
    """Raise UserError where no run would take that mesh, of so many GPUs; of CPUs nobody knows how many."""
    from dl.parallel.mesh import parse_mesh

    if mesh is None:
        return
    wanted = math.prod(parse_mesh(mesh, gpus).values())
    told = f"mesh {mesh!r} has {wanted} devices and a job of --nodes and --gpus {gpus}: let them be as many"
    if gpus and wanted > gpus:
        raise UserError("mesh-too-large", told)
    if wanted < gpus:
        raise UserError("mesh-too-small", told)


def _told(name: str, sent: Any, logs: Path) -> None:
    print(f"{name}: job {sent.job_id}, which prints to {logs / sent.job_id}/", flush=True)


def _line(error: Exception) -> str:
    return one_line(error, 10_000)[-200:]
