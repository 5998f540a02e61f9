#!/bin/sh
# A trainer for Freehold: a LoRA adapter made with TRL on this machine, and served by
# vLLM under a name of its own. Put it into $FREEHOLD_TRAINERS_DIR as `trl`, and beside
# it, not executable, trl.conf with what is different here:
#
#   TRL=/opt/trl/bin/trl             # the command; trl
#   VLLM_URL=http://10.0.0.7:8000    # empty: nothing is loaded, and the artifact alone is kept
#   VLLM_KEY_FILE=/etc/vllm.key      # if it asks for a key
#   ADAPTERS=/srv/adapters           # a folder that vLLM sees under the same path
#   LEARNING_RATE=2e-4               # times the multiplier that a tenant may choose
#   OPTIONS='--dtype bfloat16'       # more of TRL's
#   export HF_HOME=/srv/hf CUDA_VISIBLE_DEVICES=0
#
# vLLM runs with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and forgets
# adapters when it restarts, unless its lora_filesystem_resolver looks for them in
# $ADAPTERS. FREEHOLD_BASE_MODEL is the model's name at its engine, which has to be one
# that TRL knows, too. A try that was killed starts anew.
#
# The protocol: `go doc freehold/inference/finetune/command`.
set -eu
TRL=trl VLLM_URL='' VLLM_KEY_FILE='' ADAPTERS='' LEARNING_RATE=2e-4 OPTIONS=''
if [ -r "$0.conf" ]; then . "$0.conf"; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 143' TERM # TRL is in our group and hears it itself

# What the tenant chose wins.
set -- --per_device_train_batch_size "${FREEHOLD_BATCH_SIZE:-8}" --num_train_epochs "${FREEHOLD_EPOCHS:-3}" \
	--learning_rate "$(awk -v rate="$LEARNING_RATE" -v times="${FREEHOLD_LEARNING_RATE_MULTIPLIER:-1}" 'BEGIN { print rate * times }')"
if [ -e "$FREEHOLD_DATA/validation.jsonl" ]; then
	set -- "$@" --eval_strategy epoch --dataset_test_split validation
fi

# A line of TRL's log is a Python dictionary: {'loss': 0.5, 'mean_token_accuracy': 0.8, …}.
# Newer ones have the numbers in quotes.
value() {
	found=''
	case $2 in *"'$1': "*) ;; *) return ;; esac
	found=${2#*"'$1': "}
	found=${found#\'}
	found=${found%%[!0-9eE.+-]*}
}
member() {
	value "$2" "$3"
	[ -z "$found" ] || members="$members,\"$1\":$found"
}
hear() {
	step=0
	while IFS= read -r line; do
		printf '%s\n' "$line" >&2
		value num_tokens "$line"
		[ -z "$found" ] || printf '%.0f\n' "$found" >"$work/tokens"
		members=''
		member train_loss loss "$line"
		[ -z "$members" ] || step=$((step + 1))
		[ -z "$members" ] || member train_mean_token_accuracy mean_token_accuracy "$line"
		member full_valid_loss eval_loss "$line"
		member full_valid_mean_token_accuracy eval_mean_token_accuracy "$line"
		[ -z "$members" ] || printf '{"type":"metrics","step":%d%s}\n' "$step" "$members"
	done
}
mkfifo "$work/log"
hear <"$work/log" &
# OPTIONS is split into words.
"$TRL" sft --model_name_or_path "$FREEHOLD_BASE_MODEL" --dataset_name "$FREEHOLD_DATA" \
	--use_peft --lora_r 16 --lora_alpha 32 --seed "$FREEHOLD_SEED" --output_dir "$work/adapter" \
	--logging_steps 1 --save_strategy no --report_to none "$@" $OPTIONS >"$work/log"
wait

# The adapter alone is the artifact.
cp "$work/adapter"/adapter_* "$FREEHOLD_OUTPUT/"

name=
if [ "$VLLM_URL" ]; then
	# A name that no other job has, and that isn't used again: vLLM keeps what it has
	# by name.
	name=$FREEHOLD_JOB_ID
	mkdir -p "$ADAPTERS/$name"
	cp "$FREEHOLD_OUTPUT"/adapter_* "$ADAPTERS/$name/"
	if [ "$VLLM_KEY_FILE" ]; then
		printf 'header = "Authorization: Bearer %s"\n' "$(cat "$VLLM_KEY_FILE")" >"$work/curl" # no argument, which can be seen
	else
		: >"$work/curl"
	fi
	# Loading it twice is refused with 400, and is no harm: an earlier try did it.
	status=$(curl -sS -K "$work/curl" -o "$work/answer" -w '%{http_code}' -H 'Content-Type: application/json' \
		-d "{\"lora_name\":\"$name\",\"lora_path\":\"$ADAPTERS/$name\"}" "$VLLM_URL/v1/load_lora_adapter")
	case $status in
	200) ;;
	400) grep -q 'already been loaded' "$work/answer" || exit 1 ;;
	*) exit 1 ;;
	esac
fi
printf '{"type":"result","model":"%s","trained_tokens":%s,"card":{"method":"lora","rank":16,"trainer":"trl"}}\n' \
	"$name" "$(cat "$work/tokens" 2>/dev/null || echo 0)"
