"""Two network namespaces as two machines: torchrun's store between them, one evaluation shared out, the bytes of one.

    python benchmarks/two_machines.py    # needs root and iproute2; Linux only

The namespaces have an address each and nothing else, joined by a pair of virtual cables; the folder of the results is
the one thing that both see beside the network, as on machines with a common file system. Prints what was compared, and
ends with status 1 if the ledgers differ.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES, ADDRESSES = ("bpfc-one", "bpfc-two"), ("10.199.0.1", "10.199.0.2")
WORDS = "evaluate --model two_machines:model --data mnist-5k --limit 96 --batch-size 8 --eps 0.1 --attacks fgsm,pgd-10"


def model() -> object:
    """A linear network; what is compared are rows, not robustness."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def join() -> None:
    """Makes the namespaces and the cables between them."""
    for name in NAMES:
        ip(f"netns add {name}")
    ip("link add bpfc-v1 type veth peer name bpfc-v2")
    for name, address, cable in zip(NAMES, ADDRESSES, ("bpfc-v1", "bpfc-v2"), strict=True):
        ip(f"link set {cable} netns {name}")
        ip(f"-n {name} addr add {address}/24 dev {cable}")
        ip(f"-n {name} link set {cable} up")
        ip(f"-n {name} link set lo up")


def bpfc(out: Path) -> list[str]:
    return ["bpfc", *WORDS.split(), "--device", "cpu", "--precision", "fp32", "--out", str(out)]


def main() -> int:
    around = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        subprocess.run([sys.executable, "-m", *bpfc(one)], check=True, env=around, stdout=subprocess.DEVNULL)
        try:
            join()
            machines = []
            for rank, name in enumerate(NAMES):
                run = f"-m torch.distributed.run --nnodes 2 --node-rank {rank} --nproc-per-node 1"
                meet = f"--master-addr {ADDRESSES[0]} --master-port 29511 -m"
                command = ["ip", "netns", "exec", name, sys.executable, *run.split(), *meet.split(), *bpfc(two)]
                machines.append(subprocess.Popen(command, env=around, stdout=subprocess.DEVNULL))
            ended = [machine.wait() for machine in machines]
        finally:
            for name in NAMES:
                subprocess.run(["ip", "netns", "del", name], check=False)
        same = ended == [0, 0] and (one / "ledger.jsonl").read_bytes() == (two / "ledger.jsonl").read_bytes()
        lines = (one / "ledger.jsonl").read_bytes().count(b"\n")
        told = "the same, byte by byte" if same else "NOT the same"
        print(f"two machines ended with {ended}; ledgers of {lines} rows are {told}")
        return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
