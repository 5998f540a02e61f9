package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// Training is how this machine trains, as an operator writes it.
type Training struct {
	Jobs  string // FREEHOLD_TRAIN_JOBS: at a time; 1, and 0 for a machine that trains nothing
	Cores string // FREEHOLD_TRAIN_CORES: of each job; half of what there is, at least one
	// Priority is FREEHOLD_TRAIN_PRIORITY: idle, the default, trains when nobody else has
	// work; normal is for a machine that does nothing but train.
	Priority string
	Dir      string // FREEHOLD_TRAINERS_DIR: commands that train, by name; empty: none
	// Logs is FREEHOLD_TRAINERS_LOGS: a folder for what commands write to standard error,
	// which may hold tenants' data. Empty: it isn't kept.
	Logs string
}

func trainingFromEnv(getenv func(string) string) Training {
	return Training{
		Jobs: getenv("FREEHOLD_TRAIN_JOBS"), Cores: getenv("FREEHOLD_TRAIN_CORES"),
		Priority: getenv("FREEHOLD_TRAIN_PRIORITY"), Dir: getenv("FREEHOLD_TRAINERS_DIR"),
		Logs: getenv("FREEHOLD_TRAINERS_LOGS"),
	}
}

type trainingSet struct {
	jobs, cores int
	eager       bool
}

// maxTrainJobs bounds the jobs that a process does at a time.
const maxTrainJobs = 64

// parse names each mistake by its variable.
func (t Training) parse() (set trainingSet, err error) {
	var errs []error
	count := func(name, text string, otherwise, lo, hi int) int {
		if text == "" {
			return otherwise
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < lo || n > hi {
			errs = append(errs, fmt.Errorf("%s: %q is not a whole number from %d to %d", name, text, lo, hi))
		}
		return n
	}
	set.jobs = count("FREEHOLD_TRAIN_JOBS", t.Jobs, 1, 0, maxTrainJobs)
	set.cores = count("FREEHOLD_TRAIN_CORES", t.Cores, max(1, runtime.NumCPU()/2), 1, runtime.NumCPU())
	switch t.Priority {
	case "", "idle":
	case "normal":
		set.eager = true
	default:
		errs = append(errs, fmt.Errorf("FREEHOLD_TRAIN_PRIORITY: %q is neither idle nor normal", t.Priority))
	}
	for name, dir := range map[string]string{"FREEHOLD_TRAINERS_DIR": t.Dir, "FREEHOLD_TRAINERS_LOGS": t.Logs} {
		if info, err := os.Stat(dir); dir != "" && (err != nil || !info.IsDir()) {
			errs = append(errs, errors.New(name+" is no folder"))
		}
	}
	return set, errors.Join(errs...)
}

// runsFolder makes a folder for this process's runs under base, locked for as long
// as it lives, and removes those of processes that are dead: tenants' data lies
// there while a run goes on. The caller calls leave at its end.
func runsFolder(base string) (dir string, leave func(), err error) {
	if base == "" {
		base = os.TempDir()
	}
	if base, err = filepath.Abs(base); err != nil {
		return "", nil, err
	}
	base = filepath.Join(base, "runs")
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", nil, fmt.Errorf("make the runs' folder: %w", err)
	}
	old, err := os.ReadDir(base)
	if err != nil {
		return "", nil, fmt.Errorf("read the runs' folder: %w", err)
	}
	for _, e := range old {
		path := filepath.Join(base, e.Name())
		if lock, ok := lockFolder(path); ok {
			err = errors.Join(err, os.RemoveAll(path), lock.Close())
		}
	}
	if err != nil {
		return "", nil, fmt.Errorf("empty the runs' folder: %w", err)
	}
	var own string
	var lock *os.File
	for locked := false; !locked; {
		if own, err = os.MkdirTemp(base, "worker-"); err != nil {
			return "", nil, fmt.Errorf("make the runs' folder: %w", err)
		}
		// Another process that begins may take a folder without a lock for a dead one's.
		if lock, locked = lockFolder(own); locked {
			if _, err := os.Stat(own); err != nil {
				locked = false
				_ = lock.Close()
			}
		}
	}
	leave = func() { _, _ = os.RemoveAll(own), lock.Close() }
	return filepath.Join(own, "jobs"), leave, nil
}

// lockFolder takes a folder's lock, which goes with the process.
func lockFolder(path string) (*os.File, bool) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, false
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		_ = f.Close()
		return nil, false
	}
	return f, true
}
