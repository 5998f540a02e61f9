package dump

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill the program when this process is killed: it would
// go on writing into a database that the next worker makes anew.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
