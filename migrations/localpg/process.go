package localpg

import (
	"os/exec"
	"runtime"
	"syscall"
)

// process is a started child that is waited for by a goroutine of its own.
type process struct {
	pid  int
	done chan struct{} // closed when the process has ended
	err  error         // what Wait said; read it after done
}

// spawn starts cmd so that death is sent to it when this process ends, by
// whatever cause. cmd.SysProcAttr must be set.
func spawn(cmd *exec.Cmd, death syscall.Signal) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// On Linux the signal is tied to the thread that started the child, so that
		// thread is kept for as long as the child lives. It isn't unlocked: what
		// was tied to it ends with it.
		runtime.LockOSThread()
		defer close(p.done)
		release, err := startBound(cmd, death)
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		release()
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, err
	}
	return p, nil
}

// killGroup ends the process and those it has started, at once.
func (p *process) killGroup() {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(-p.pid, syscall.SIGKILL) // as in signal
	}
}

// signal is sent to the process alone. One that has ended gets none: its
// number may be another's by now.
func (p *process) signal(sig syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(p.pid, sig) // it may have ended since; then all is well
	}
}
