// Command bench measures Freehold beside its peers, on one machine and in one
// process: `make bench NAME=router`.
//
// Each contest runs its sides in an order that is shuffled anew each round, on a
// Postgres that it starts itself, with the settings that a cluster has after
// initdb: what is committed is on the disk. Standard output has one JSON object a
// case; progress and a table for people go to standard error. The exit status
// says whether every case was measured, not whether its goal was met.
//
// It is for developers, and never part of the shipped binary.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// topics are what NAME can be, in the order in which all of them run.
var topics = []topic{
	{"router", routerContests},
	{"isolation", isolationContests},
	{"onboarding", onboardingContests},
	{"fleet", fleetContests},
	{"pii", piiContests},
	{"inference", inferenceContests},
	{"finetune", finetuneContests},
	{"move", moveContests},
}

func main() {
	if upstream := os.Getenv(nodeEnv); upstream != "" {
		if err := beNode(upstream); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

// options are the same for every topic.
type options struct {
	rounds  int
	slot    time.Duration // of each side in each round
	tenants int
	mb      int // of the large tenant that moves
	only    *regexp.Regexp
	profile string
}

func run(ctx context.Context, args []string) error {
	opt, names, err := parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return errUsage
	}
	if opt.profile != "" {
		file, err := os.Create(opt.profile)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var errs []error
	for _, t := range topics {
		if len(names) > 0 && !names[t.name] {
			continue
		}
		b := newBench(t.name, opt, os.Stdout, os.Stderr)
		errs = append(errs, b.run(ctx, t))
	}
	return errors.Join(errs...)
}

func parse(args []string) (options, map[string]bool, error) {
	var (
		opt     options
		seconds float64
		only    string
	)
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "bench [flags] [%s]...\n", strings.Join(topicNames(), "|"))
		flags.PrintDefaults()
	}
	flags.IntVar(&opt.rounds, "rounds", int(fromEnv("FREEHOLD_BENCH_ROUNDS", 10)), "rounds of each contest ($FREEHOLD_BENCH_ROUNDS)")
	flags.Float64Var(&seconds, "seconds", fromEnv("FREEHOLD_BENCH_SECONDS", 2), "length of each side's turn ($FREEHOLD_BENCH_SECONDS)")
	flags.IntVar(&opt.tenants, "tenants", 500, "tenant databases; onboarding and fleet make twice as many; fewer are for trials")
	flags.IntVar(&opt.mb, "mb", int(fromEnv("FREEHOLD_BENCH_MB", 1024)), "size of the large tenant that moves, in MB; fewer are for trials ($FREEHOLD_BENCH_MB)")
	flags.StringVar(&only, "only", "", "contests to run, a regular expression")
	flags.StringVar(&opt.profile, "cpuprofile", "", "file for a profile of this process")
	if err := flags.Parse(args); err != nil {
		return opt, nil, err
	}
	opt.slot = time.Duration(seconds * float64(time.Second))
	if opt.rounds < 1 || opt.slot < 10*time.Millisecond || opt.tenants < minTenants || opt.mb < minMB {
		return opt, nil, fmt.Errorf("want at least 1 round, 0.01 seconds, %d tenants and %d MB", minTenants, minMB)
	}
	var err error
	if opt.only, err = regexp.Compile(only); err != nil {
		return opt, nil, err
	}
	names := map[string]bool{}
	for _, name := range flags.Args() {
		if !strings.Contains("|"+strings.Join(topicNames(), "|")+"|", "|"+name+"|") {
			return opt, nil, fmt.Errorf("no benchmark %q: there are %s", name, strings.Join(topicNames(), ", "))
		}
		names[name] = true
	}
	return opt, names, nil
}

func topicNames() (names []string) {
	for _, t := range topics {
		names = append(names, t.name)
	}
	return names
}

// fromEnv is a number from the environment; one that can't be read is as good as
// none, and then refused by parse.
func fromEnv(name string, otherwise float64) float64 {
	text, ok := os.LookupEnv(name)
	if !ok || text == "" {
		return otherwise
	}
	n, _ := strconv.ParseFloat(text, 64)
	return n
}
