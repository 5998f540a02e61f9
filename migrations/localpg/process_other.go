//go:build !linux

package localpg

import (
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"syscall"
)

// watch waits for a line on its standard input. When the input ends without
// one, whoever held the other end is dead, and the process is signalled.
const watch = `read -r ended || kill -"$1" "$2"`

// startBound starts cmd and a shell beside it that holds one end of a pipe; the
// kernel closes our end when we die. The shell runs as the same account, for
// it must be allowed to signal.
func startBound(cmd *exec.Cmd, death syscall.Signal) (release func(), err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	watcher := exec.Command("/bin/sh", "-c", watch, "sh",
		strconv.Itoa(int(death)), strconv.Itoa(cmd.Process.Pid))
	watcher.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cmd.SysProcAttr.Credential}
	watcher.Env = environment()
	watcher.Dir = "/"
	pipe, err := watcher.StdinPipe()
	if err == nil {
		err = watcher.Start()
	}
	if err != nil {
		_ = cmd.Process.Signal(death)
		_ = cmd.Wait()
		return nil, fmt.Errorf("start watcher: %w", err)
	}
	return func() {
		_, _ = io.WriteString(pipe, "ended\n") // a watcher that is gone needs no telling
		_ = pipe.Close()
		_ = watcher.Wait()
	}, nil
}
