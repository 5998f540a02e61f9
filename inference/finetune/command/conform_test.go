package command_test

import (
	"testing"

	"freehold/inference/finetune"
	"freehold/inference/finetune/trainertest"
)

// here is a command that works on this machine; SLOW makes it never end, and what is
// in PIDS are its processes.
const here = `
echo >"$PIDS/$$"
sleep 60 & echo >"$PIDS/$!"
echo '{"type":"message","level":"info","message":"begun"}'
echo 'a line for people'
if ! [ -e "$FREEHOLD_CHECKPOINTS/part-1" ]; then
	cksum <"$FREEHOLD_DATA/train.jsonl" >"$FREEHOLD_CHECKPOINTS/part-1"
	echo '{"type":"saved","file":"part-1"}'
	sleep 0.1
fi
for step in 1 2 3; do echo '{"type":"metrics","step":'$step',"train_loss":0.'$step'}'; done
echo '{"type":"checkpoint","step":3,"train_loss":0.3,"train_mean_token_accuracy":0.9}'
if grep -q spoilt "$FREEHOLD_DATA/train.jsonl"; then
	echo '{"type":"failure","code":"invalid_training_file","message":"Nobody can learn this.","param":"training_file"}'
	exit 1
fi
while [ "$SLOW" ]; do sleep 0.02; done
{ cat "$FREEHOLD_CHECKPOINTS/part-1"; echo "seed $FREEHOLD_SEED"; } >"$FREEHOLD_OUTPUT/model.bin"
echo '{"type":"result","model":"adapter-'$FREEHOLD_JOB_ID'","engine":"gpu","trained_tokens":99,"card":{"rank":8},"evaluation":{"loss":0.5}}'
`

func spoil(t *testing.T, run *finetune.Run) { put(t, run.Train, "spoilt\n", 0o600) }

func TestConform(t *testing.T) {
	t.Parallel()
	trainertest.Run(t, func(t *testing.T) trainertest.Fixture {
		pids := t.TempDir()
		return trainertest.Fixture{
			Trainer: trainer(t, "PIDS="+pids+" SLOW=\n"+here), Slow: trainer(t, "PIDS="+pids+" SLOW=1\n"+here),
			Base: base, Spoil: spoil, Objects: objects(t), Deterministic: true, Saves: true,
			Alive:   func() int { return alive(t, pids) },
			Secrets: []string{"X-Amz-Signature", "FREEHOLD_OUTPUT_URL"},
		}
	})
}
