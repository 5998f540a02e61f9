package child_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"freehold/inference/finetune/child"
)

// The command comes after everybody else, on the cores it was given; the worker
// stays as it was.
func TestPriority(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for slot := range 2 {
		got := output(t, child.Spec{
			Path: "/bin/sh", Args: []string{"-c", "cat /proc/self/stat; grep Cpus_allowed_list /proc/self/status; cat /proc/self/oom_score_adj; ulimit -c"},
			Cores: 1, Slot: slot,
		})
		lines := strings.Split(strings.TrimSpace(got), "\n")
		if len(lines) != 4 {
			t.Fatalf("printed %q", got)
		}
		// proc_pid_stat(5): nice is the 19th field, policy the 41st.
		fields := strings.Fields(lines[0][strings.LastIndex(lines[0], ")")+2:])
		if nice, policy := fields[19-3], fields[41-3]; nice != "19" || policy != fmt.Sprint(unix.SCHED_IDLE) {
			t.Errorf("nice %s, policy %s", nice, policy)
		}
		cpu := strings.Fields(lines[1])[1]
		if strings.ContainsAny(cpu, ",-") || seen[cpu] && runtime.NumCPU() > 1 {
			t.Errorf("slot %d: cores %s", slot, cpu)
		}
		seen[cpu] = true
		if lines[2] != "800" || lines[3] != "0" {
			t.Errorf("killed for memory at %s, core dumps of %s blocks", lines[2], lines[3])
		}
	}
	own, err := unix.SchedGetAttr(0, 0)
	if err != nil || own.Policy != unix.SCHED_NORMAL {
		t.Fatalf("the worker's own policy: %+v, %v", own, err)
	}
	eager := output(t, child.Spec{Path: "/bin/cat", Args: []string{"/proc/self/stat", "/proc/self/oom_score_adj"}, Eager: true})
	if fields := strings.Fields(eager[strings.LastIndex(eager, ")")+2:]); fields[19-3] != fmt.Sprint(own.Nice) || fields[41-3] != fmt.Sprint(unix.SCHED_NORMAL) || strings.Contains(eager, "800\n") {
		t.Errorf("eager: %q", eager)
	}
	if got := output(t, child.Spec{Path: "/usr/bin/nproc"}); got != fmt.Sprintln(runtime.NumCPU()) {
		t.Errorf("without a number of cores: %s", bytes.TrimSpace([]byte(got)))
	}
}
