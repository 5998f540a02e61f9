package localpg

import (
	"os/exec"
	"syscall"
)

// startBound starts cmd with the kernel's promise to send death to it when the
// calling thread ends.
func startBound(cmd *exec.Cmd, death syscall.Signal) (release func(), err error) {
	cmd.SysProcAttr.Pdeathsig = death
	return func() {}, cmd.Start()
}
