"""A process that fits the small world's model: python fit_process.py FOLDER [LARGEST_FILE]. It prints each step as
it ends, then `done` and the digest of what it made; a UserError goes to stderr with exit code 2, SIGTERM with 143."""

import json
import resource
import sys
from pathlib import Path

import jax
from training_world import CONFIG, random_examples

from rest_jax.config.settings import ImproveSettings
from rest_jax.core.canonical import digest
from rest_jax.core.errors import UserError
from rest_jax.core.termination import Terminated, terminable
from rest_jax.models import decoder
from rest_jax.models.digest import weights_digest
from rest_jax.training.fit import fit

SETTINGS = ImproveSettings(steps=24, rows=2, length=24, learning_rate=3e-2, warmup=1, checkpoint_every=1)


def emit(event):
    if event.kind == "metrics":
        print(json.dumps({"step": event.data["step"]}), flush=True)


def main(folder, largest_file=None):
    params = decoder.init(CONFIG, jax.random.key(0))
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest_file), resource.RLIM_INFINITY))
    try:
        with terminable():
            result = fit(
                CONFIG, params, random_examples(5), SETTINGS, start="w", seed=3, folder=Path(folder), emit=emit
            )
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except Terminated as ended:
        print(ended, file=sys.stderr)
        sys.exit(143)
    print(json.dumps({"done": digest([weights_digest(result.params), result.losses])}), flush=True)


main(*sys.argv[1:])
