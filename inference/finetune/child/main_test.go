package child_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"freehold/inference/finetune/child"
)

// What the worker's environment has, and no command may see.
var secrets = map[string]string{
	"FREEHOLD_MASTER_KEY_FILE": "/etc/secret", "AWS_SECRET_ACCESS_KEY": "hunter2", "PGPASSWORD": "hunter2", "OPENAI_API_KEY": "hunter2",
}

func TestMain(m *testing.M) {
	child.Guard()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "stay":
			stay(os.Args[2], os.Args[3:])
			return
		case "work":
			fmt.Println(child.Command(context.Background(), tree(os.Args[2])))
			return
		}
	}
	for name, value := range secrets {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// stay notes its number in a file and is there for a while: deaf to SIGTERM, away
// from its group, as it is told.
func stay(file string, how []string) {
	for _, h := range how {
		switch h {
		case "deaf":
			signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
		case "away":
			if _, err := syscall.Setsid(); err != nil {
				panic(err)
			}
		}
	}
	if err := os.WriteFile(file+".new", []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		panic(err)
	}
	time.Sleep(time.Minute)
}

// tree is a command of five processes that note their numbers in a folder: one
// that does nothing special, one that is deaf, one that left the group, and one
// whose parent is gone.
func tree(dir string) child.Spec {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return shell(`
		"$SELF" stay "$DIR/plain" &
		"$SELF" stay "$DIR/deaf" deaf &
		"$SELF" stay "$DIR/away" away deaf &
		("$SELF" stay "$DIR/orphan" away deaf &)
		trap '' TERM
		echo $$ >"$DIR/new"; mv "$DIR/new" "$DIR/command"
		while :; do wait; done`, "SELF="+self, "DIR="+dir)
}

var members = []string{"plain", "deaf", "away", "orphan", "command"}

func shell(script string, env ...string) child.Spec {
	return child.Spec{Path: "/bin/sh", Args: []string{"-c", script}, Env: env, Grace: 300 * time.Millisecond}
}

// numbers waits until all of a tree are there.
func numbers(t *testing.T, dir string) []int {
	t.Helper()
	pids := make([]int, 0, len(members))
	for deadline := time.Now().Add(time.Minute); len(pids) < len(members); {
		if time.Now().After(deadline) {
			t.Fatalf("of %q only %d came", members, len(pids))
		}
		b, err := os.ReadFile(filepath.Join(dir, members[len(pids)]))
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// gone waits until none of pids lives.
func gone(t *testing.T, pids []int, within time.Duration) {
	t.Helper()
	deadline := time.Now().Add(within)
	for i, pid := range pids {
		for alive(pid) {
			if time.Now().After(deadline) {
				t.Errorf("%s lives after %v", members[i], within)
				_ = syscall.Kill(pid, syscall.SIGKILL)
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// alive reports whether pid is there and no zombie, which only waits for a parent
// to look.
func alive(pid int) bool {
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		rest := string(b[strings.LastIndex(string(b), ")")+1:])
		return !strings.HasPrefix(strings.TrimSpace(rest), "Z")
	}
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}
