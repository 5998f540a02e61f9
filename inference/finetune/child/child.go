package child

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// Spec says what to run, and how. Path is required; zero means the default that is
// named beside a field.
type Spec struct {
	// Path of the program, absolute. PATH isn't searched.
	Path string
	Args []string
	// Env, NAME=value, is all that the command gets beside PATH, HOME, LANG and
	// TMPDIR of this process; it wins over those.
	Env []string
	Dir string // the command's working folder, absolute; /

	// Cores is how many processors the command may use, of the last ones that this
	// process may use; all of them. Commands of different slots get different ones
	// while there are enough.
	Cores int
	Slot  int
	// Eager has the command take its turn with everybody else: for a machine that has
	// nothing better to do.
	Eager bool

	// Grace is how long the command may take to end after SIGTERM; 10 s. A command
	// that has just been started and printed nothing is given two seconds before that,
	// to set up what it does then. NoGrace, when there is one, is asked why the
	// command is being ended; true: it is killed without SIGTERM.
	Grace   time.Duration
	NoGrace func(cause error) bool

	// Stdout gets each line that the command prints, without its end; the bytes are
	// its own until it returns. A line of more than 1 MB is left out. While Stdout works
	// the command may have to wait. Its error ends the command. After ctx has ended
	// it isn't called. Nil: nobody reads.
	Stdout func(line []byte) error
	// StderrFile gets what the command writes to standard error, mode 0600, the last
	// half to one MB of it. Empty: nothing is kept.
	StderrFile string
}

const (
	defaultGrace = 10 * time.Second
	// sweepTime is how long a guard takes at most to see all dead that it has killed.
	sweepTime = time.Second
	// deafTime is how long a command may take until it understands SIGTERM.
	deafTime  = 2 * time.Second
	maxLine   = 1 << 20
	maxStderr = 1 << 20
)

// Exit is how a command ended that didn't end well.
type Exit struct {
	Code   int            // its status; -1 when a signal ended it
	Signal syscall.Signal // that ended it; 0: none
}

func (e *Exit) Error() string {
	if e.Signal != 0 {
		return "the command was ended by signal: " + e.Signal.String()
	}
	return fmt.Sprintf("the command ended with status %d", e.Code)
}

// Errors of Command beside those of ctx, of Stdout and of the system.
var (
	// ErrGuard is returned when the guard was killed, and the command's group after it.
	ErrGuard = errors.New("the command's guard was killed")
	// ErrLeft is returned when processes were still there a second after they had
	// been killed: the kernel waits for a device.
	ErrLeft = errors.New("processes of the command can't be killed")
)

// Command runs s and returns when nothing of it is left: nil when it ended with
// status 0, *Exit when it ended otherwise, Stdout's error, or ctx's cause, also
// when it ended well after it was told to end. When the command has ended, what it
// left running is killed. It takes at most Grace and four seconds from the end of ctx.
func Command(ctx context.Context, s Spec) error {
	s, err := s.withDefaults()
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	g, err := start(s)
	if err != nil {
		return fmt.Errorf("run command: %w", err)
	}
	return g.wait(ctx, s)
}

func (s Spec) withDefaults() (Spec, error) {
	if s.Grace == 0 {
		s.Grace = defaultGrace
	}
	if s.Dir == "" {
		s.Dir = "/"
	}
	switch {
	case !filepath.IsAbs(s.Path):
		return s, errors.New("run command: its path isn't absolute")
	case !filepath.IsAbs(s.Dir):
		return s, errors.New("run command: its folder isn't absolute")
	case s.Cores < 0 || s.Slot < 0 || s.Grace < 0:
		return s, errors.New("run command: Cores, Slot and Grace can't be below 0")
	}
	return s, nil
}
