"""A process of a group: python group_process.py WHAT. It prints what came of it, as the command would."""

import json
import sys

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from rest_jax.core.errors import UserError
from rest_jax.distributed.group import joined
from rest_jax.distributed.mesh import make_mesh, whole
from rest_jax.distributed.processes import launched

sys.stderr = sys.stdout
NUMBERS = 40


def talks(group):
    takes = group.counter()
    here = {"all": group.shared({"from": group.index}), "first": group.told(group.index), "took": []}
    while (number := takes()) < NUMBERS:
        here["took"].append(number)
    mesh = make_mesh(2)
    halves = jax.device_put(np.arange(4.0), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    try:
        make_mesh(3)
    except UserError as error:
        here["uneven"] = str(error)
    return {**here, "devices": [device.process_index for device in mesh.devices.flat], "whole": whole(halves).tolist()}


def fails_while_one_waits_for_a_word(group):
    if group.index == 1:
        raise UserError("no room; free some")
    group.shared()


def fails_while_one_waits_in_a_collective(group):
    if group.index == 1:
        raise UserError("no room; free some")
    process_allgather(np.ones(3))


def fails_in_both(group):
    group.shared()
    raise UserError("no room; free some")


try:
    with joined(launched()) as group:
        print(json.dumps(globals()[sys.argv[1]](group)))
except UserError as error:
    print(f"error: {error}")
    sys.exit(2)
