"""A Slurm cluster of one node on this machine, from Debian's packages: munged, slurmctld and slurmd as children of the
test, everything they write in one folder, nothing left when the test ends."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
WHERE = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
libc = ctypes.CDLL(None)


def why_not() -> str:
    """The reason why no cluster can be started here, or ""."""
    missing = [p for p in PROGRAMS if shutil.which(p, path=WHERE) is None]
    if missing:
        return f"{', '.join(missing)} missing: scripts/bootstrap --slurm installs Slurm"
    return "" if os.geteuid() == 0 else "slurmd needs root"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    """Context manager; sets SLURM_CONF for everything that is started inside."""

    def __init__(self, folder: Path, cpus: int = 2):
        self.folder, self.cpus, self.daemons = folder, cpus, []

    def __enter__(self):
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # what the daemons leave behind becomes ours
        self.folder.mkdir()
        self.folder.chmod(0o755)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        (self.folder / "slurm.conf").write_text(self._configuration())
        os.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        try:
            for name in ("munged", "slurmctld", "slurmd"):
                self._daemon(name)
            self._until(lambda: "idle" in self._ask("sinfo", "-h", "-o", "%T"), "an idle node")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self._ask("scancel", "--me")
            self._until(lambda: not self._ask("squeue", "-h", "--me").strip(), "an empty queue", 15)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for child in self._children():  # a slurmstepd that did not end with its job
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0)
        os.environ.pop("SLURM_CONF", None)

    def _configuration(self) -> str:
        host, me, at = socket.gethostname().split(".")[0], "root", self.folder
        return f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={free_port()}
SlurmUser={me}
SlurmdUser={me}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={at}/munge.socket,cred_expire=5
StateSaveLocation={at}/state
SlurmdSpoolDir={at}/spool
SlurmctldPidFile={at}/slurmctld.pid
SlurmdPidFile={at}/slurmd.pid
SlurmctldLogFile={at}/slurmctld.log
SlurmdLogFile={at}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=2,sched_min_interval=100000,batch_sched_delay=1
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName=node0 NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={self.cpus} State=UNKNOWN
PartitionName=all Nodes=node0 Default=YES MaxTime=INFINITE State=UP
"""

    def _daemon(self, name: str) -> None:
        at = self.folder
        words = {
            "munged": ["-F", f"--key-file={at}/munge.key", f"--socket={at}/munge.socket", f"--pid-file={at}/munged.pid",
                       f"--log-file={at}/munged.log", f"--seed-file={at}/munge.seed", "--num-threads=2", "--force"],
            "slurmctld": ["-D", "-c"],
            "slurmd": ["-D", "-N", "node0"],
        }[name]  # fmt: skip
        with (at / f"{name}.out").open("w") as out:
            command = [shutil.which(name, path=WHERE), *words]
            daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )  # fmt: skip
        self.daemons.append(daemon)
        if name == "munged":
            self._until((at / "munge.socket").exists, "munged's socket")

    def _ask(self, *words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=20).stdout

    def _until(self, condition, what: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            for daemon in self.daemons:
                if daemon.poll() is not None:
                    raise RuntimeError(f"{daemon.args[0]} ended with {daemon.returncode}\n{self.logs()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {what} within {seconds:.0f} s\n{self.logs()}")
            time.sleep(0.2)

    def logs(self) -> str:
        """The last lines of every daemon."""
        said = [*self.folder.glob("*.log"), *self.folder.glob("*.out")]
        return "\n".join(f"--- {p.name}\n" + "\n".join(p.read_text(errors="replace").splitlines()[-15:]) for p in said)

    @staticmethod
    def _children() -> list[int]:
        return [int(w) for p in Path("/proc/self/task").glob("*/children") for w in p.read_text().split()]
