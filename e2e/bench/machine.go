package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine says when and on what is measured, for whoever quotes a figure.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores (%s), %s", time.Now().Format(time.DateOnly), runtime.NumCPU(), model, runtime.Version())
}

// resident is the memory of processes in MB, where each page counts for its part
// with those who share it (proc(5), smaps_rollup, Pss).
func resident(pids []int) (float64, error) {
	total := 0
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		kb, err := pss(string(text))
		if err != nil {
			return 0, err
		}
		total += kb
	}
	return float64(total) / 1024, nil
}

// pss is the proportional set size in a smaps_rollup, in kB.
func pss(rollup string) (int, error) {
	for line := range strings.Lines(rollup) {
		if size, ok := strings.CutPrefix(line, "Pss:"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(size), " kB"))
		}
	}
	return 0, errors.New("no Pss in smaps_rollup")
}
