#!/bin/sh
# A trainer for Freehold: each job is a Kubernetes Job, named after it, that fetches the
# data and hands in the artifact by presigned addresses, which lie in a Secret. Put it
# into $FREEHOLD_TRAINERS_DIR, and beside it, not executable, <its name>.conf:
#
#   IMAGE=registry.example.com/trl:1   # with curl, tar, and a trainer at /trainer (trl.sh is one)
#   NAMESPACE=training
#   GPUS=1
#   ADAPTERS_CLAIM=adapters            # a volume claim, at /adapters: for a vLLM that serves from it
#   DEADLINE=86400                     # seconds, after which the cluster gives up
#   export KUBECONFIG=/etc/freehold/training.kubeconfig
#
# Its account may create, get, patch and delete jobs and secrets there, and get, list
# and watch pods and pods/log. A cancelled job is deleted from the cluster. When only
# the worker stops, it runs on, and the next worker finds it by its name.
#
# The protocol: `go doc freehold/inference/finetune/command`.
set -eu
IMAGE='' NAMESPACE=default GPUS=1 ADAPTERS_CLAIM='' DEADLINE=86400
if [ -r "$0.conf" ]; then . "$0.conf"; fi

job=$FREEHOLD_JOB_ID # ftjob-<uuid>: a name that Kubernetes takes
# What goes into the manifest ends no string there.
case $job$FREEHOLD_MODEL$FREEHOLD_BASE_MODEL$FREEHOLD_TRAIN_URL in *[!a-zA-Z0-9:/._~%?\&=@+-]*) exit 1 ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

kube() { kubectl --namespace "$NAMESPACE" "$@"; }

# in_turn runs a command so that a signal is heard at once: a shell sees to it only
# between commands, but ends a wait.
in_turn() {
	"$@" &
	wait $!
}

remove() { kube delete job,secret "$job" --ignore-not-found --wait=false >&2; }

trap 'trap "" TERM; remove; exit 143' TERM
echo ready # no SIGTERM comes before the first line, unless that is late

state() {
	kube get job "$job" --ignore-not-found -o \
		'jsonpath={.status.conditions[?(@.status=="True")].type}' >"$work/state"
}

# What an earlier try left failed would be found failed again.
in_turn state
case $(cat "$work/state") in *Failed*) in_turn kube delete job "$job" --wait=true >&2 ;; esac

mounts='' volumes=''
if [ "$ADAPTERS_CLAIM" ]; then
	mounts='        - {name: adapters, mountPath: /adapters}'
	volumes="      - {name: adapters, persistentVolumeClaim: {claimName: '$ADAPTERS_CLAIM'}}"
fi
manifest() {
	cat <<MANIFEST
apiVersion: v1
kind: Secret
metadata:
  name: $job
  labels: {app.kubernetes.io/managed-by: freehold}
stringData:
  train: '$FREEHOLD_TRAIN_URL'
  validation: '${FREEHOLD_VALIDATION_URL:-}'
  output: '$FREEHOLD_OUTPUT_URL'
---
apiVersion: batch/v1
kind: Job
metadata:
  name: $job
  labels: {app.kubernetes.io/managed-by: freehold}
spec:
  backoffLimit: 0
  activeDeadlineSeconds: $DEADLINE
  ttlSecondsAfterFinished: 86400
  template:
    metadata:
      labels: {app.kubernetes.io/managed-by: freehold}
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      containers:
      - name: trainer
        image: '$IMAGE'
        resources: {limits: {nvidia.com/gpu: '$GPUS'}}
        env:
        - {name: FREEHOLD_JOB_ID, value: '$job'}
        - {name: FREEHOLD_BASE_MODEL, value: '$FREEHOLD_BASE_MODEL'}
        - {name: FREEHOLD_MODEL, value: '$FREEHOLD_MODEL'}
        - {name: FREEHOLD_SEED, value: '$FREEHOLD_SEED'}
$(for name in FREEHOLD_EPOCHS FREEHOLD_BATCH_SIZE FREEHOLD_LEARNING_RATE_MULTIPLIER; do
		eval "value=\${$name:-}"
		[ -z "$value" ] || echo "        - {name: $name, value: '$value'}"
	done)
        - {name: FREEHOLD_DATA, value: /job/data}
        - {name: FREEHOLD_OUTPUT, value: /job/output}
        - {name: FREEHOLD_CHECKPOINTS, value: /job/checkpoints}
        - {name: TRAIN_URL, valueFrom: {secretKeyRef: {name: $job, key: train}}}
        - {name: VALIDATION_URL, valueFrom: {secretKeyRef: {name: $job, key: validation}}}
        - {name: OUTPUT_URL, valueFrom: {secretKeyRef: {name: $job, key: output}}}
        volumeMounts:
        - {name: work, mountPath: /job}
$mounts
        command: [/bin/sh, -euc]
        args:
        - |
          mkdir -p /job/data /job/output /job/checkpoints
          fetch() { printf 'url = "%s"\n' "\$1" | curl -fsS --retry 5 -K - -o "\$2"; }
          fetch "\$TRAIN_URL" /job/data/train.jsonl
          [ -z "\$VALIDATION_URL" ] || fetch "\$VALIDATION_URL" /job/data/validation.jsonl
          /trainer
          tar -C /job/output -cf /job/output.tar .
          printf 'url = "%s"\n' "\$OUTPUT_URL" | curl -fsS --retry 5 -K - -T /job/output.tar
      volumes:
      - {name: work, emptyDir: {}}
$volumes
MANIFEST
}
# A Job that is there already stays as it is, also where it can't be changed to what
# is wanted by now. Standard input, so that no argument or file has the addresses.
submit() { manifest | kube apply -f - >&2; }
in_turn submit || kube get job "$job" >/dev/null

# What the trainer in the cluster prints is our own output: it speaks the same
# protocol. When the connection breaks, only what is new is passed on.
echo 0 >"$work/seen"
follow() {
	seen=$(cat "$work/seen")
	kube logs --follow "job/$job" --pod-running-timeout=1h | {
		n=0
		while IFS= read -r line; do
			n=$((n + 1))
			[ "$n" -le "$seen" ] || printf '%s\n' "$line"
		done
		[ "$n" -le "$seen" ] || echo "$n" >"$work/seen"
	}
}
silent=0
while :; do
	if in_turn state && [ -s "$work/state" ]; then silent=0; fi
	in_turn follow || true
	case $(cat "$work/state") in
	*Complete*) break ;;
	*Failed*)
		remove
		exit 1
		;;
	esac
	silent=$((silent + 1))
	# The cluster says nothing for long: another try will find the job there.
	if [ "$silent" -gt 300 ] && ! kube get job "$job" >/dev/null; then exit 1; fi
	in_turn sleep 2
done
remove
