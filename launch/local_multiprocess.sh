#!/usr/bin/env bash
# Runs of one configuration on this machine, 2 seed(s) at a time, then their table. The same command goes on where it
# stopped. Written by `rest-jax launch render local_multiprocess`; docs/launch/local_multiprocess.md.
set -euo pipefail

folder=runs/quickstart

run_seed() { # SEED: $SLOT, from 0, is its place among those that run at this time
  rest-jax run configs/quickstart.yaml --seed "$1" --run-dir "$folder/seed-$1" \
    >>"$folder/seed-$1.log" 2>&1 || { echo "seed $1 failed: see $folder/seed-$1.log" >&2 && return 1; }
}
export -f run_seed
export folder

mkdir -p "$folder"
seq 0 3 | xargs -P 2 -n 1 --process-slot-var=SLOT bash -c 'run_seed "$1"' run_seed
rest-jax pool "$folder"/seed-{0..3} --evidence "$folder/evidence.jsonl" --json "$folder/summary.json"
