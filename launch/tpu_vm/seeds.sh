#!/usr/bin/env bash
# A TPU VM for each seed of one configuration: `seeds.sh create`, then `install`, `start`, `status`, `fetch` and `delete`.
# `start` again goes on where a run stopped. Written by `rest-jax launch render tpu_vm`; docs/launch/tpu_vm.md.
# Untested on hardware.
set -euo pipefail

zone=us-east5-b
folder=runs/quickstart # here, and on each VM below its clone

vm() { echo rest-jax-"$1"; }

on_vm() { # SEED COMMAND
  gcloud compute tpus tpu-vm ssh "$(vm "$1")" --zone="$zone" --command="$2"
}

create() {
  gcloud compute tpus queued-resources create "$(vm "$1")" --node-id="$(vm "$1")" --zone="$zone" \
    --accelerator-type=v6e-1 --runtime-version=v2-alpha-tpuv6e
}

install() { # with a Python of its own: the VM's may be too old
  on_vm "$1" "git clone $(printf %q https://github.com/rest-jax/rest_jax) rest_jax && python3 -m pip install --user uv \
    && cd rest_jax && python3 -m uv venv --python 3.12 .venv && python3 -m uv pip install --python .venv/bin/python '.[tpu]'"
}

start() { # in the background of the VM: nobody has to stay
  local run=(.venv/bin/rest-jax run configs/quickstart.yaml --seed "$1" --run-dir "$folder/seed-$1")
  on_vm "$1" "cd rest_jax && mkdir -p $(printf %q "$folder") \
    && { setsid nohup $(printf '%q ' "${run[@]}") >>$(printf %q "$folder/seed-$1.log") 2>&1 </dev/null & }"
}

status() {
  gcloud compute tpus queued-resources describe "$(vm "$1")" --zone="$zone" --format='value(name.basename(),state.state)'
  on_vm "$1" "cd rest_jax && .venv/bin/rest-jax status $(printf %q "$folder/seed-$1")" || echo "$(vm "$1"): no run yet"
}

fetch() {
  mkdir -p "$folder"
  gcloud compute tpus tpu-vm scp "$(vm "$1"):rest_jax/$folder/seed-$1" "$folder" --recurse --zone="$zone"
}

delete() { # with all that has not been fetched
  gcloud compute tpus queued-resources delete "$(vm "$1")" --zone="$zone" --force --quiet
}

case "${1:-}" in
  create | install | start | status | fetch | delete)
    for ((seed = 0; seed < 4; seed++)); do "$1" "$seed"; done
    ;;
  *)
    echo "usage: $0 create|install|start|status|fetch|delete" >&2
    exit 2
    ;;
esac
