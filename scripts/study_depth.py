"""Studies where more depth stops improving accuracy: `python scripts/study_depth.py --data=folder:PATH --output_dir=runs/study`.

It also tests whether effective depth predicts this. The same command resumes an interrupted study.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from keras_widerresnet.cli.command import run_script
from research.study_command import COMMAND

if __name__ == "__main__":
    run_script(COMMAND)
