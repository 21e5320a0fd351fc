"""What may happen to a long run: every end leaves something that can be resumed, or says why it ended."""

import json
import signal
import subprocess
import time

import numpy as np
import pytest
from test_training import ENVIRONMENT, QUICK, RUN, command, metrics, refused, trained, trained_here, undisturbed

from keras_widerresnet.training import faults


def started(output_dir, log, *flags):
    with open(log, "wb") as file:
        return subprocess.Popen(command(output_dir, *flags), env=ENVIRONMENT, stdout=file, stderr=file)


def wait_for(condition, process, log, seconds=300):
    deadline = time.time() + seconds
    while not condition() and time.time() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return undisturbed(tmp_path_factory)


def test_terminated_run_resumes_in_the_middle_of_its_epoch(whole_run, tmp_path):
    """SIGTERM: a checkpoint, exit code 143; resumed, the metrics are those of a run that was not stopped, the broken epoch's too."""
    log = tmp_path / "log"
    process = started(tmp_path / "run", log, *RUN)
    wait_for(lambda: list((tmp_path / "run" / "checkpoints").glob("*.index")), process, log)
    time.sleep(0.1)  # the next epoch has begun
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert "Stopped by SIGTERM after step" in log.read_text() and "Traceback" not in log.read_text()
    assert not (tmp_path / "run" / "report.md").exists()
    resumed = trained(tmp_path / "run", *RUN)
    assert "Resumed from" in resumed.stderr
    assert metrics(tmp_path / "run") == metrics(whole_run)
    rates = [row["learning_rate"] for row in metrics(tmp_path / "run")]
    np.testing.assert_allclose(rates, [0.075, 0.05, 0.025, 1e-6], rtol=1e-4)  # the schedule, across the resume


def test_terminated_at_the_end_of_an_epoch_loses_no_row(tmp_path):
    """Epochs of one step: each is tested, logged and saved before the run stops."""
    flags = (*QUICK, "--epochs=20", "--steps_per_epoch=1", "--resume")
    log = tmp_path / "log"
    process = started(tmp_path / "run", log, *flags)
    wait_for(lambda: list((tmp_path / "run" / "checkpoints").glob("*.index")), process, log)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143, log.read_text()[-3000:]
    assert 0 < len(metrics(tmp_path / "run")) < 20
    trained_here(tmp_path / "run", *flags)
    assert [row["epoch"] for row in metrics(tmp_path / "run")] == list(range(20))


def test_loss_that_is_no_number_stops_the_run_and_keeps_the_good_checkpoint(tmp_path, capsys, monkeypatch):
    """A rate that explodes: the message says which step, and a checkpoint of a finite loss, if any, is the last one."""
    flags = (f"--output_dir={tmp_path / 'run'}", *QUICK, "--epochs=3", "--learning_rate=1e20")
    line = refused(capsys, monkeypatch, "train", *flags, code=faults.DIVERGED)
    assert "The loss of step" in line and "is NaN or infinite. The last good checkpoint is kept" in line
    step = int(line.split("The loss of step ")[1].split()[0])
    assert 1 <= step < 10
    assert not list((tmp_path / "run" / "checkpoints").glob("*.index")) and not (tmp_path / "run" / "report.md").exists()


def test_full_disk_leaves_a_run_that_resumes(tmp_path):
    """On a file system of a few hundred kilobytes, in a mount of its own; with more room the same command goes on."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no mount of one's own may be made here")
    small = tmp_path / "small"
    small.mkdir()
    train = " ".join(command(small / "run", *QUICK, "--epochs=2", "--resume"))
    # Full at first; then, in the same mount, larger.
    script = f"mount -t tmpfs -o size=2500k tmpfs {small} && {{ {train}; echo CODE $?; "
    script += f"mount -o remount,size=100m {small}; {train}; echo CODE $?; }}"
    script += f"; cp {small}/run/metrics.csv {tmp_path}"
    result = subprocess.run(["unshare", "-rm", "sh", "-c", script], env=ENVIRONMENT, capture_output=True, text=True)
    assert [line for line in result.stdout.splitlines() if line.startswith("CODE")] == ["CODE 1", "CODE 0"], result.stderr[-3000:]
    assert "train.py: The disk is full" in result.stderr and "Traceback" not in result.stderr
    assert len(metrics(tmp_path)) == 2


CLUSTER_PORTS = (24310, 24311)


def worker(index, output_dir, log, *flags, ports=CLUSTER_PORTS):
    addresses = [f"localhost:{port}" for port in ports]
    cluster = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
    with open(log, "wb") as file:
        return subprocess.Popen(
            command(output_dir, "--strategy=multi_worker", *flags), env={**ENVIRONMENT, "TF_CONFIG": cluster}, stdout=file, stderr=file
        )


def ended(processes, seconds):
    deadline = time.time() + seconds
    while any(process.poll() is None for process in processes) and time.time() < deadline:
        time.sleep(0.2)
    codes = [process.poll() for process in processes]
    for process in processes:
        process.kill()
        process.wait()
    return codes


@pytest.mark.slow
def test_two_workers(tmp_path):
    """Two processes: the loss curve of one with two replicas, the same weights on both, and recovery after `kill -9` of one of them."""
    flags = (*QUICK, "--epochs=4", "--sync_batch_norm", "--learning_rate=0.01", "--resume")
    trained(tmp_path / "one", *flags, "--logical_devices=2")

    logs = [tmp_path / f"log{index}" for index in range(2)]
    both = [worker(index, tmp_path / "two", logs[index], *flags) for index in range(2)]
    assert ended(both, 400) == [0, 0], logs[0].read_text()[-3000:] + logs[1].read_text()[-3000:]
    one, two = ([[row[key] for key in ("loss", "val_loss")] for row in metrics(tmp_path / name)] for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4)
    fingerprints = [next(line for line in log.read_text().splitlines() if "Checksum of the weights" in line).split()[-1] for log in logs]
    assert fingerprints[0] == fingerprints[1]

    ports = (24320, 24321)
    broken = [worker(index, tmp_path / "broken", logs[index], *flags, ports=ports) for index in range(2)]
    wait_for(lambda: list((tmp_path / "broken" / "checkpoints").glob("*.index")), broken[0], logs[0], 400)
    broken[1].send_signal(signal.SIGKILL)
    codes = ended(broken, 200)
    assert codes[1] == -signal.SIGKILL and codes[0] not in (0, None)
    print("exit code of the worker that was left:", codes[0])
    assert not (tmp_path / "broken" / "report.md").exists()
    again = [worker(index, tmp_path / "broken", logs[index], *flags, ports=(24330, 24331)) for index in range(2)]
    assert ended(again, 400) == [0, 0], logs[0].read_text()[-3000:]
    assert "Resumed from" in logs[0].read_text()
    recovered = [[row[key] for key in ("loss", "val_loss")] for row in metrics(tmp_path / "broken")]
    np.testing.assert_allclose(recovered, two, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_terminating_one_worker_stops_both(tmp_path):
    flags = (*QUICK, "--epochs=40", "--resume")
    logs = [tmp_path / f"log{index}" for index in range(2)]
    both = [worker(index, tmp_path / "run", logs[index], *flags, ports=(24340, 24341)) for index in range(2)]
    wait_for(lambda: list((tmp_path / "run" / "checkpoints").glob("*.index")), both[0], logs[0], 400)
    both[1].send_signal(signal.SIGTERM)
    assert ended(both, 200) == [143, 143], logs[0].read_text()[-3000:]
    assert "is saved" in logs[0].read_text()
