#!/usr/bin/env bash
# A job on all workers of a TPU slice: asks for it, waits, installs, runs, and starts over when the
# slice is preempted. Runs on your own machine, in a terminal that lives as long as the job.
#
#     launch/tpu_pod.sh --config=configs/wrn.py:34-10 --workdir=/shared/runs/wrn-34-10
#     launch/tpu_pod.sh --dry-run --config=... --workdir=...            # prints what it would do
#
# Edit (or set in the environment): NAME, ZONE and ACCELERATOR; SETUP, which every worker runs first
# and which mounts a disk that all of them share (a Filestore, say) for --workdir. Set REPOSITORY,
# the address that git clones the project from.
set -euo pipefail

NAME=${NAME:-war-jax}
ZONE=${ZONE:-us-central2-b}
ACCELERATOR=${ACCELERATOR:-v4-32}
RUNTIME=${RUNTIME:-tpu-ubuntu2204-base}
SETUP=${SETUP:-sudo mkdir -p /shared && sudo mount -o nolock FILESTORE_ADDRESS:/share /shared}
PROGRAM=${PROGRAM:-war_jax.main}
MAX_RESTARTS=${MAX_RESTARTS:-100}
SECONDS_BETWEEN_LOOKS=${SECONDS_BETWEEN_LOOKS:-30}

dry_run=
if [[ ${1:-} == --dry-run ]]; then
  dry_run=yes
  shift
  REPOSITORY=${REPOSITORY:-REPOSITORY_ADDRESS}
fi
: "${REPOSITORY:?the address that git clones the project from}"

run() {
  if [[ -n $dry_run ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

create() {
  run gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" --spot
}

state() {
  gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" \
    --format='value(state.state)' 2>/dev/null || echo ABSENT
}

remove() {
  run gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet
}

everywhere() {
  run gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"
}

install="($SETUP) && (test -d war-jax || git clone $(printf %q "$REPOSITORY") war-jax) && cd war-jax"
install+=' && (test -d .venv || python3 -m venv .venv)'
install+=" && .venv/bin/pip install --quiet --constraint constraints.txt --editable '.[tpu]'"
# gcloud does not hand on the exit code of each worker, so each says it.
work="cd war-jax && .venv/bin/python -m $PROGRAM$(printf ' %q' "$@"); echo exit code: \$?"

if [[ -n $dry_run ]]; then
  create
  everywhere "$install"
  everywhere "$work"
  remove
  exit 0
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
for ((start = 0; start <= MAX_RESTARTS; start++)); do
  while true; do
    case $(state) in
      ACTIVE) break ;;
      ABSENT) create ;;
      SUSPENDED | FAILED) remove ;;
    esac
    sleep "$SECONDS_BETWEEN_LOOKS"
  done
  : >"$log"
  if everywhere "$install"; then
    everywhere "$work" 2>&1 | tee "$log" || true
  fi
  if grep -qE 'exit code: [12]$' "$log"; then
    echo "tpu_pod: failed or refused; the slice $NAME is left as it is" >&2
    exit 1
  fi
  if grep -qE 'exit code: 0$' "$log" && ! grep -qE 'exit code: [0-9]{2,}$' "$log"; then
    remove
    exit 0
  fi
  echo 'tpu_pod: preempted or lost; starting again from the last checkpoint' >&2
done
exit 75
