"""A process that has TensorFlow imported and forks a child for each command, so that a hundred commands take no hundred imports.

A line of JSON on its standard input is a request, a line of JSON on its standard output the answer:

- `{"arguments": [...], "folder": PATH, "log": PATH, "kill_at": N, "delay": SECONDS}` runs a command as the console does. The child
  kills itself (SIGKILL) just before its N-th file operation in the folder, or so many seconds later; without `kill_at` it runs to its end.
  The answer has the exit `code` (negative: the signal) and the `operations` that there were.
- `{"mount": PATH, "size": "300k"}` mounts a file system in memory or changes the size of the one there, and `{"copy": [FROM, TO]}` copies
  a folder out of it or into it: if this process was started by `unshare -rm`, no other sees what it mounts.

Operations are those that Python audits (PEP 578): files opened for writing, renamed and removed, folders made and removed. TensorFlow's
own are not among them; its checkpoints are announced by hand, and a delay ends the process in the middle of them.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import traceback

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import matplotlib.figure  # noqa: F401
import sklearn.metrics  # noqa: F401
import tensorflow as tf

from keras_widerresnet.cli import main, process
from keras_widerresnet.conversion import convert_file  # noqa: F401
from keras_widerresnet.export.run import export  # noqa: F401
from keras_widerresnet.tasks.classification.task import Classification  # noqa: F401
from keras_widerresnet.training.run import train  # noqa: F401

RENAMES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
ANNOUNCED = "keras_widerresnet.announced"


class Ending:
    """Counts the operations in a folder, and ends the process at one of them."""

    def __init__(self, folder, kill_at, delay, counter):
        self.folder, self.kill_at, self.delay, self.counter = str(folder), kill_at, delay, counter
        self.operations = 0
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if event == "open":
            path, _, flags = arguments
            is_ours = isinstance(path, (str, os.PathLike)) and (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        else:
            is_ours = event in RENAMES or event == ANNOUNCED
        if not is_ours or not any(isinstance(one, (str, os.PathLike)) and os.fspath(one).startswith(self.folder) for one in arguments):
            return
        self.operations += 1
        os.pwrite(self.counter, str(self.operations).encode(), 0)
        if self.operations == self.kill_at:
            if not self.delay:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Thread(target=self.end_later, daemon=True).start()

    def end_later(self):
        time.sleep(self.delay)
        os.kill(os.getpid(), signal.SIGKILL)


def announce_checkpoints():
    save = tf.train.CheckpointManager.save

    def announced(self, *arguments, **options):
        sys.audit(ANNOUNCED, self.directory)
        path = save(self, *arguments, **options)
        sys.audit(ANNOUNCED, self.directory)
        return path

    tf.train.CheckpointManager.save = announced


def child(request, counter):
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    process.restart_with_huge_pages = process.hold_weights_frozen = lambda: None
    announce_checkpoints()
    Ending(request["folder"], request.get("kill_at"), request.get("delay", 0), counter)
    code = 0
    try:
        main(request["arguments"])
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def answer(request):
    if "mount" in request:
        is_there = os.path.ismount(request["mount"])
        options = f"{'remount,' if is_there else ''}size={request['size']}"
        pathlib.Path(request["mount"]).mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", request["mount"]], check=True)
        return {}
    if "copy" in request:
        subprocess.run(["cp", "-a", *request["copy"]], check=True)
        return {}
    counter = os.memfd_create("operations")
    begin = time.perf_counter()
    number = os.fork()
    if not number:
        child(request, counter)
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    operations = int(os.pread(counter, 20, 0) or 0)
    os.close(counter)
    return {"code": code, "operations": operations, "seconds": round(time.perf_counter() - begin, 3)}


if __name__ == "__main__":
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
