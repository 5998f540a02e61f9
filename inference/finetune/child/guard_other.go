//go:build !linux

package child

import (
	"os"
	"syscall"
)

// Self is the path of this program.
func Self() (string, error) { return os.Executable() }

// adopt can't: who leaves the group is gone.
func adopt() {}

// confine can't.
func confine(int, int) {}

// yield lets everybody else go first.
func yield() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19) }

// hurry can't: a priority once given away is gone.
func hurry(int) {}
func hurryAll() {}

// bound is nothing here: the worker kills the group when the guard is gone.
func bound() *syscall.SysProcAttr { return nil }

// sweep leaves it to the end of the group.
func (w *watch) sweep() bool { return true }
