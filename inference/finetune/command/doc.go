// Package command is a trainer that has an operator's own command do the work: a
// script around TRL or axolotl, or one that submits to Slurm or Kubernetes. Commands
// are the executable files of one folder; a model's trainer command:<name> is the
// file <name> there. Run speaks the same protocol with any other command.
//
// # What a command is given
//
// Its environment is PATH, HOME, LANG and TMPDIR, and:
//
//	FREEHOLD_JOB          path of a JSON file that says what is to be done (type job)
//	FREEHOLD_JOB_ID       ftjob-<uuid>, the same in each try
//	FREEHOLD_DATA         folder with train.jsonl, and validation.jsonl if there is one
//	FREEHOLD_OUTPUT       folder for the artifact's files, empty at first
//	FREEHOLD_CHECKPOINTS  folder with the files that earlier tries have saved
//	FREEHOLD_BASE_MODEL   the base model, by its name at its engine
//	FREEHOLD_MODEL        what the new model will be called
//	FREEHOLD_SEED         a whole number
//	FREEHOLD_EPOCHS, FREEHOLD_BATCH_SIZE, FREEHOLD_LEARNING_RATE_MULTIPLIER
//	                      what the tenant has chosen of these; else they aren't there
//
// A trainer's command has addresses, too, for work on other machines. They are good
// for seven days (for less if the platform's own credentials are), and secrets:
//
//	FREEHOLD_TRAIN_URL, FREEHOLD_VALIDATION_URL  GET the data
//	FREEHOLD_OUTPUT_URL   PUT one tar with the artifact's files; it is taken when
//	                      FREEHOLD_OUTPUT is empty at the end
//
// Personal data is hidden in the data as it is in prompts.
//
// # What it says
//
// Lines on standard output, each a JSON object; other lines are passed over, also
// those of more than 1 MB:
//
//	{"type":"metrics","step":10,"train_loss":0.31}
//	{"type":"checkpoint","step":10,"valid_loss":0.4}
//	{"type":"message","level":"info","message":"Waiting for a GPU"}
//	{"type":"saved","file":"a file in FREEHOLD_CHECKPOINTS that the next try is to have"}
//	{"type":"result","model":"its name at the engine","engine":"the platform's name of that, if it isn't the base's",
//	 "trained_tokens":12345,"card":{},"evaluation":{}}
//	{"type":"failure","code":"trainer_error","message":"for the tenant","param":"training_file"}
//
// All members but type are optional. Of several results each adds to the ones before.
// Status 0 means done, with the artifact alone if there was no result. After a failure
// the job fails for good; any other status has it tried again. A flood of metrics and
// messages is thinned out.
//
// # How it is ended
//
// SIGTERM to its group means that the tenant has cancelled the job: what was begun
// elsewhere is to be removed; SIGKILL follows after the grace. It isn't sent before the
// first line of output, or two seconds. When only this worker
// stops, the command is killed without a word, as if the machine had failed, and is
// started again elsewhere: what it began under the job's id on other machines should
// be left to run, and found again by that id.
package command
