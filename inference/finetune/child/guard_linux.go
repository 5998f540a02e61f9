package child

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Self is the path of this program, also after its file was replaced.
func Self() (string, error) { return "/proc/self/exe", nil }

// ioprio_set(2): of a thread, the class that is served when the disk is idle.
const (
	ioprioWhoProcess = 1
	ioprioIdle       = 3 << 13
)

// adopt has what leaves the group, and loses its parent, become ours.
func adopt() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// yield lets everybody else go before this thread and what it starts. What the
// system refuses is done without.
func yield() {
	// So that memory that runs out is taken from training, not from who serves.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("800"), 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_IDLE, Nice: 19}, 0)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, ioprioIdle)
}

// confine keeps this thread, and what it starts, to its cores.
func confine(cores, slot int) {
	if unix.SchedGetaffinity(0, &everywhere) != nil || cores == 0 {
		return
	}
	var all []int
	for cpu := range len(everywhere) * 64 {
		if everywhere.IsSet(cpu) {
			all = append(all, cpu)
		}
	}
	var chosen unix.CPUSet
	for _, cpu := range share(all, cores, slot) {
		chosen.Set(cpu)
	}
	_ = unix.SchedSetaffinity(0, &chosen)
}

// everywhere is where this process might run. confine sets it before others read it.
var everywhere unix.CPUSet

// hurry takes back what yield and confine did to a process that is to end: on a busy
// machine who has no turn can't even die. Without the right to raise a priority it
// gets all processors at least.
func hurry(pid int) {
	threads, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return
	}
	for _, t := range threads {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.SchedSetaffinity(tid, &everywhere)
			_ = unix.SchedSetAttr(tid, &unix.SchedAttr{Policy: unix.SCHED_NORMAL}, 0)
		}
	}
}

// hurryAll is hurry for all that is below us.
func hurryAll() {
	all, _ := descendants(os.Getpid()) // none without /proc
	for _, pid := range all {
		hurry(pid)
	}
}

// bound has the command die with the guard's thread, which is there until the guard
// is gone.
func bound() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// sweep kills all descendants and reports whether none is left. New ones can appear
// while it looks, so it looks until there are none.
func (w *watch) sweep() bool {
	for late := time.After(sweepTime); ; {
		left, err := descendants(os.Getpid())
		if err != nil {
			return true // without /proc the end of the group must do
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			hurry(pid)
		}
		select {
		case <-w.empty:
			return true
		case <-late:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// descendants are the processes whose ancestor is pid.
func descendants(pid int) ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, name := range names {
		p, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if parent, err := parentOf(p); err == nil {
			children[parent] = append(children[parent], p)
		}
	}
	if len(children) == 0 {
		return nil, errors.New("nothing in /proc")
	}
	all := children[pid]
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all, nil
}

// parentOf reads proc_pid_stat(5): the parent stands second after the name, which
// is in parentheses and may hold some.
func parentOf(pid int) (int, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 2 {
		return 0, errors.New("no parent")
	}
	return strconv.Atoi(string(fields[1]))
}
