package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"freehold/inference/finetune"
	"freehold/inference/finetune/child"
)

// Config of a trainer. Dir and Name are required.
type Config struct {
	Dir  string // the folder with commands
	Name string // of the file there

	Cores int           // for the command; all that this process has
	Eager bool          // the command takes its turn with everybody else, not after them
	Grace time.Duration // to end after SIGTERM; 30 s
	// Logs is a folder for what commands write to standard error, a file for each
	// job. That may be what is in the data, so by default nothing is kept.
	Logs string
	// MostBytes bounds the artifact that comes as a tar; 20 GiB.
	MostBytes int64
}

const (
	defaultGrace = 30 * time.Second
	defaultMost  = 20 << 30
)

// Trainer runs one command.
type Trainer struct{ cfg Config }

// New checks that the command is there, and safe to run.
func New(cfg Config) (*Trainer, error) {
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	if cfg.MostBytes == 0 {
		cfg.MostBytes = defaultMost
	}
	if cfg.Dir == "" || !name.MatchString(cfg.Name) || cfg.Cores < 0 || cfg.Grace < 0 || cfg.MostBytes < 0 {
		return nil, errors.New("command trainer: Dir and Name are required, and nothing can be below 0")
	}
	for _, dir := range []*string{&cfg.Dir, &cfg.Logs} {
		if *dir == "" {
			continue
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return nil, fmt.Errorf("command trainer: %w", err)
		}
		*dir = abs
	}
	t := &Trainer{cfg}
	if err := usableDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("command trainer: %w", err)
	}
	if err := usable(t.path()); err != nil {
		return nil, fmt.Errorf("command trainer %s: %w", cfg.Name, err)
	}
	return t, nil
}

// name is how commands are called; those that begin with a dot are none, nor are
// files that merely lie beside them, for these aren't executable.
var name = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`)

// ErrUnsafe is returned for a command, or a folder with commands, that others than
// its owner can change.
var ErrUnsafe = errors.New("others than its owner can change it")

// Names lists the commands of a folder, in order; what can't be run, or could be
// changed by others, is left out. ErrUnsafe when the folder is such.
func Names(dir string) ([]string, error) {
	if err := usableDir(dir); err != nil {
		return nil, fmt.Errorf("list commands: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list commands: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name.MatchString(e.Name()) && usable(filepath.Join(dir, e.Name())) == nil {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func usableDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return errors.New("no folder")
	case info.Mode().Perm()&0o022 != 0:
		return ErrUnsafe
	}
	return nil
}

// usable looks through links, as a mounted ConfigMap has them: who could change one
// could write to the folder.
func usable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("no file")
	case info.Mode().Perm()&0o111 == 0:
		return fs.ErrPermission
	case info.Mode().Perm()&0o022 != 0:
		return ErrUnsafe
	}
	return nil
}

// Check refuses every method but supervised, for all commands.
func Check(m finetune.Method) error {
	if m.Type != "" && m.Type != "supervised" {
		return &finetune.Refused{Param: "method.type", Message: "This model is fine-tuned with the method supervised only."}
	}
	return nil
}

// Check is the function of that name.
func (t *Trainer) Check(m finetune.Method) error { return Check(m) }

// Train runs the command, with the data staged for other machines.
func (t *Trainer) Train(ctx context.Context, run *finetune.Run) (finetune.Result, error) {
	if cause := context.Cause(ctx); cause != nil {
		return finetune.Result{}, cause
	}
	// Once more: the worker may have had this trainer for a while.
	if err := usable(t.path()); err != nil {
		return finetune.Result{}, fmt.Errorf("command trainer %s: %w", t.cfg.Name, err)
	}
	spec := child.Spec{Path: t.path(), Cores: t.cfg.Cores, Eager: t.cfg.Eager, Grace: t.cfg.Grace}
	if t.cfg.Logs != "" {
		spec.StderrFile = filepath.Join(t.cfg.Logs, run.Job.ID+".log")
	}
	urls, err := stage(ctx, run)
	if err != nil {
		return finetune.Result{}, orCause(ctx, err)
	}
	spec.Env = urls
	result, err := Run(ctx, run, spec)
	if err != nil {
		return finetune.Result{}, err
	}
	if err := t.fetch(ctx, run); err != nil {
		return finetune.Result{}, orCause(ctx, err)
	}
	if empty, err := emptyDir(run.Out); err != nil || empty && result.Upstream == "" {
		return finetune.Result{}, errors.Join(errNothing, err)
	}
	return result, nil
}

func (t *Trainer) path() string { return filepath.Join(t.cfg.Dir, t.cfg.Name) }

// errNothing says that a command made neither files nor a name.
var errNothing = errors.New("the command ended well, and made nothing")

// orCause is what ended ctx, or else err.
func orCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func emptyDir(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	return len(entries) == 0, err
}
