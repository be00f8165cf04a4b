#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Everything there is to know about kiln on a GPU, in one call:

    first_contact.py BIN OUT [--budget SECONDS] [--only PART,...]

BIN is what `cargo xtask bundle` made. OUT gets steps.jsonl (a record per step, as soon as it ends), log.txt (what they
printed), bench.jsonl (a row per measurement) and summary.txt, which is printed at the end. The parts, in order:

    machine    driver, clocks, tools, PyTorch
    doctor     what kiln finds
    images     a training with machine code, with PTX, with NVRTC
    capture    a training step by step and captured, which must agree to the last bit
    tests      every test of the CUDA backend and of the kernels, a process each
    self-test  every kernel against the CPU, a process for each precision
    sanitizer  compute-sanitizer's four tools over a few steps
    bench      kernels, products and training steps, in turns with PyTorch and burn; the laboratory, built here
    ncu        counters of 20 launches
    after      clocks again

It ends with 0 if every part ran and passed; what this machine has no tool for is left out and told. Python's standard
library is all it needs. KILN_SIM_LIBRARY names kiln's simulated driver: the parts are tried with a few tests each, and
nothing is timed.
"""

import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stepper import Step, Stepper  # noqa: E402
from summary import summary  # noqa: E402

PARTS = ["machine", "doctor", "images", "capture", "tests", "self-test", "sanitizer", "bench", "ncu", "after"]
# burn's peer is there only if somebody built it.
BURN = "peer-burn-cuda"
PROGRAMS = ["kiln", "cuda_test", "kernels_test", "bench", BURN]
PRECISIONS = ["f32", "tf32", "bf16", "f16"]
# Never .../stubs, whose libcuda does nothing.
LIBRARY_FOLDERS = ["/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/local/cuda/lib64"]
# Seconds of a budget.
ENOUGH_TO_COMPILE = 3600
# That a peer has for an answer then.
PATIENCE = 900
SMALL = ["--hidden", "64", "--epochs", "1", "--batch", "64", "--quiet"]
SMI = "clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu,power.draw,power.limit"
TORCH = (
    "import json, torch; print(json.dumps({'torch': torch.__version__, 'cuda': torch.version.cuda, "
    "'gpu': torch.cuda.get_device_name(0)}))"
)
METRICS = ",".join(
    [
        "gpu__time_duration.sum",
        "sm__throughput.avg.pct_of_peak_sustained_elapsed",
        "dram__throughput.avg.pct_of_peak_sustained_elapsed",
        "sm__warps_active.avg.pct_of_peak_sustained_active",
        "sm__inst_executed_pipe_tensor.sum",
        "l1tex__data_bank_conflicts_pipe_lsu.sum",
        "launch__grid_size",
        "launch__registers_per_thread",
        "launch__occupancy_limit_registers",
    ]
)
# The simulated driver has tests of its own for all this: here a few show that the parts work.
TRIED = {
    "cuda_test": ["images::images_of_the_build_are_used_or_missed", "lab::", "plans::an_arena_moves"],
    "kernels_test": ["alone::ceilings", "alone::copies", "launches_ask_for_what_they_need"],
}


class Contact:
    """The parts, on one machine."""

    def __init__(self, binaries: Path, out: Path, budget: float, most: float, parts: list[str]):
        self.binaries, self.out, self.most = binaries, out, most
        self.work = Path(tempfile.mkdtemp(prefix="first-contact-"))
        self.simulated = os.environ.get("KILN_SIM_LIBRARY")
        self.programs = self.work / "bin"
        self.unpack()
        self.steps = Stepper(out, budget, parts, self.environment(), timed=not self.simulated)
        (out / "bench.jsonl").unlink(missing_ok=True)

    def unpack(self) -> None:
        """Lays the programs side by side, since tests look for kiln there."""
        self.programs.mkdir()
        for name in PROGRAMS:
            packed, here = self.binaries / f"{name}.gz", self.programs / name
            if packed.is_file():
                with gzip.open(packed) as source, here.open("wb") as target:
                    shutil.copyfileobj(source, target)
                here.chmod(0o755)
            elif (self.binaries / name).is_file():
                here.symlink_to(self.binaries / name)

    def environment(self) -> dict:
        """What every step is given. Caches are new, so that nothing of an earlier run is taken."""
        env = dict(os.environ, KILN_TEST_GPU="1", RUST_BACKTRACE="0", PYTHONUNBUFFERED="1")
        env.update(XDG_CACHE_HOME=str(self.work / "cache"), CUDA_CACHE_PATH=str(self.work / "nv"))
        folders = [folder for folder in LIBRARY_FOLDERS if Path(folder).is_dir()]
        if self.simulated:
            # Under the name by which programs ask for a driver.
            drivers = self.work / "drivers"
            drivers.mkdir()
            (drivers / "libcuda.so").symlink_to(Path(self.simulated).resolve())
            folders = [str(drivers)]
        folders += filter(None, [os.environ.get("LD_LIBRARY_PATH")])
        env["LD_LIBRARY_PATH"] = ":".join(folders)
        manifest = self.binaries / "manifest.json"
        if manifest.is_file():
            env["KILN_GIT"] = json.loads(manifest.read_text()).get("git") or ""
        return env

    def run(self) -> int:
        """All parts that were chosen; the exit code."""
        try:
            for part in PARTS:
                getattr(self, part.replace("-", "_"))()
        finally:
            shutil.rmtree(self.work, ignore_errors=True)
            text = summary(self.steps.records, self.out / "bench.jsonl", bool(self.simulated))
            (self.out / "summary.txt").write_text(text)
            print(text, flush=True)
        return 0 if self.steps.passed() else 1

    def kiln(self, *words) -> list:
        """The program with arguments."""
        return [self.programs / "kiln", *words]

    def training(self, name: str, samples: int, *words) -> list:
        """A short training that leaves its model in a folder of this name."""
        samples = ["--train-samples", str(samples), "--out", str(self.work / name)]
        return self.kiln("train", "--device", "cuda:0", *SMALL, *samples, *words)

    def machine(self) -> None:
        query = f"--query-gpu=name,driver_version,memory.total,{SMI},ecc.mode.current,mig.mode.current"
        self.do("machine/nvidia-smi", ["nvidia-smi", query, "--format=csv"], 20, parse=str.splitlines)
        tools = (
            "ldconfig -p | grep -E 'libcuda|libnvrtc'; ldd --version | head -1; nproc; for tool in nvcc ncu "
            "compute-sanitizer; do command -v $tool && $tool --version | tail -1; done; true"
        )
        self.do("machine/tools", ["sh", "-c", tools], 20, parse=str.splitlines)

    def doctor(self) -> None:
        self.do("doctor/report", self.kiln("doctor", "--json", "--device", "cuda:0"), 30, parse=usable_device)

    def images(self) -> None:
        for image in ("cubin", "ptx", "nvrtc"):
            if self.simulated and image == "nvrtc":
                self.steps.leave_out("images/nvrtc", "simulated: what is compiled for a GPU does not run")
                continue
            command = self.training(image, 1200, "--cuda-image", image, "--cuda-capture", "off")
            self.do(f"images/{image}", command, 60, excuse=no_such_image)

    def capture(self) -> None:
        for capture in ("off", "on"):
            command = self.training(f"capture-{capture}", 1200, "--cuda-capture", capture)
            self.do(f"capture/{capture}", command, 40)
        models = [self.work / f"capture-{name}" / "model.safetensors" for name in ("off", "on")]
        self.steps.compare("capture/same bits", *models)

    def tests(self) -> None:
        for program, tried in TRIED.items():
            for test in self.listed(program) if self.steps.wants("tests/") else []:
                if self.simulated and not any(test.startswith(word) for word in tried):
                    continue
                command = [self.programs / program, "--exact", test, "--nocapture", "--test-threads", "1"]
                self.do(f"tests/{program}/{test}", command, 60, parse=test_outcome)

    def listed(self, program: str) -> list[str]:
        """The tests of a program."""
        path = self.programs / program
        try:
            command = [str(path), "--list"]
            listed = subprocess.run(command, capture_output=True, text=True, env=self.steps.env, timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.steps.leave_out(f"tests/{program}", str(error), counts=True)
            return []
        tests = [line.removesuffix(": test") for line in listed.stdout.splitlines() if line.endswith(": test")]
        if not tests:
            self.steps.leave_out(f"tests/{program}", f"it lists no tests: {listed.stderr[-500:]}", counts=True)
        return tests

    def self_test(self) -> None:
        for precision in ["bf16"] if self.simulated else PRECISIONS:
            words = ["doctor", "--self-test", "--json", "--device", "cuda:0", "--precision", precision]
            self.do(f"self-test/{precision}", self.kiln(*words), 75, parse=last_object)

    def sanitizer(self) -> None:
        for tool in ("memcheck", "racecheck", "synccheck", "initcheck"):
            for precision in ("f32", "bf16"):
                options = ["--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]
                words = ["--cuda-capture", "off", "--precision", precision]
                command = self.training(f"{tool}-{precision}", 192, *words)
                self.do(f"sanitizer/{tool} {precision}", ["compute-sanitizer", *options, *command], 45)

    def bench(self) -> None:
        found = None
        if self.simulated:
            self.steps.leave_out("bench/torch", "simulated: PyTorch has no such device")
        else:
            found = self.do("bench/torch", [sys.executable, "-c", TORCH], 60, parse=last_object, excuse=no_torch)
        command = [self.programs / "bench", "--json", self.out / "bench.jsonl"]
        if found and found["result"] == "ok":
            command += ["--torch", sys.executable, "--torch-script", self.binaries / "peers" / "pytorch_cuda.py"]
            # What PyTorch takes to compile a network would leave time for nothing else.
            if self.steps.budget >= ENOUGH_TO_COMPILE:
                command += ["--modes", "eager,fused,graph,compile", "--patience", PATIENCE]
        if self.simulated:
            self.steps.leave_out("bench/burn", "simulated: burn has no such device")
        elif (self.programs / BURN).is_file():
            command += ["--burn", self.programs / BURN]
        limit = max(60.0, self.steps.left("bench/rows") - 60.0)
        self.do("bench/rows", command + ["--seconds", str(int(limit - 15))], limit)
        self.laboratory()

    def laboratory(self) -> None:
        """The kernels of one file, compiled here, in a program that is compiled here."""
        nvcc = os.environ.get("NVCC") or shutil.which("nvcc") or "nvcc"
        kernels, lab, cubin = self.binaries / "kernels", self.work / "lab", self.work / "ceilings.cubin"
        common = ["-std=c++17", "-O3", "-I", kernels]
        build = [nvcc, *common, "-o", lab, self.binaries / "lab.cu", "-ldl"]
        self.do("bench/lab build", build, 90)
        compile_kernels = [nvcc, *common, "-cubin", "-arch", self.architecture(), "-o", cubin, kernels / "ceilings.cu"]
        self.do("bench/lab kernels", compile_kernels, 90)
        if lab.is_file() and cubin.is_file():
            self.do("bench/lab", [lab, cubin], 60)

    def architecture(self) -> str:
        """The first device's, by what `kiln doctor` found."""
        doctor = [record for record in self.steps.records if record["step"] == "doctor/report"]
        told = [record["data"] for record in doctor if "data" in record]
        devices = told[0]["cuda"]["devices"] if told else [{"capability": [9, 0]}]
        major, minor = devices[0]["capability"]
        return f"sm_{major}{minor}"

    def ncu(self) -> None:
        for precision in ("f32", "bf16"):
            options = ["--clock-control", "none", "--csv", "--page", "raw", "--metrics", METRICS]
            options += ["--launch-skip", "21", "--launch-count", "20"]
            words = ["--cuda-capture", "off", "--precision", precision]
            command = self.training(f"ncu-{precision}", 1200, *words)
            self.do(f"ncu/{precision}", ["ncu", *options, *command], 60, parse=csv_lines)

    def after(self) -> None:
        self.do("after/nvidia-smi", ["nvidia-smi", f"--query-gpu={SMI}", "--format=csv"], 20, parse=str.splitlines)

    def do(self, name: str, command: list, limit: float, parse=None, excuse=None) -> dict | None:
        """Runs one step."""
        return self.steps.run(Step(name, command, min(limit, self.most), parse=parse, excuse=excuse))


def last_object(text: str) -> dict:
    """The last line that is an object."""
    return json.loads(next(line for line in reversed(text.splitlines()) if line.startswith("{")))


def usable_device(text: str) -> dict:
    """What `kiln doctor --json` says, if there is a device that can be used."""
    report = last_object(text)
    if not any(device["usable"] for device in report["cuda"]["devices"]):
        raise ValueError(f"no device can be used: {report['cuda'].get('error')}")
    return report


def no_such_image(text: str) -> str | None:
    """Why kernels in one form are of no use here: it was not built, or the driver is too old for it."""
    refusals = r"UNSUPPORTED_PTX_VERSION|NO_BINARY_FOR_GPU|JIT_COMPIL\w+|this program has no|NVRTC \S+ was not found"
    found = next((line for line in text.splitlines() if re.search(refusals, line)), None)
    return found and found[:300]


def no_torch(text: str) -> str | None:
    """Whether there is no PyTorch, or none with a GPU."""
    words = ("No module named", "not compiled with CUDA", "no NVIDIA driver", "NVIDIA")
    found = any(word in text for word in words)
    return "no PyTorch that uses this GPU" if found else None


def test_outcome(text: str) -> dict:
    """What a test left out, and how exact its kernels were."""
    if "test result: ok. 1 passed" not in text:
        raise ValueError("no test ran")
    skipped = re.findall(r"skipped: (.*)", text)
    worst = re.findall(r"^  (\w+): worst ([\d.]+) %", text, re.MULTILINE)
    return {"skipped": skipped, "worst percent of tolerance": {name: float(share) for name, share in worst}}


def csv_lines(text: str) -> list[str]:
    """The table of counters."""
    return [line for line in text.splitlines() if line.startswith('"')]


def main() -> int:
    """Reads the arguments and runs."""
    known = f"parts: {', '.join(PARTS)}"
    parser = argparse.ArgumentParser(description="Runs everything kiln has on a GPU.", epilog=known)
    parser.add_argument("bin", type=Path, help="what cargo xtask bundle made")
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--budget", type=float, default=480, help="seconds for everything (480)")
    parser.add_argument("--most", type=float, default=600, help="seconds for any one step, beside its own limit")
    parser.add_argument("--only", default="", metavar="PART,...", help="these parts alone")
    args = parser.parse_args()
    parts = [word for word in args.only.split(",") if word]
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}: {', '.join(PARTS)}")
    if not any((args.bin / name).is_file() for name in ("kiln", "kiln.gz")):
        parser.error(f"{args.bin} is no bundle: it has no kiln")
    return Contact(args.bin.resolve(), args.out.resolve(), args.budget, args.most, parts).run()


if __name__ == "__main__":
    sys.exit(main())
