package app

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Routing is the router's settings as an operator writes them. Config.Check reads
// them and names each mistake.
type Routing struct {
	QueueWait, PauseWait, PauseQueue, TenantConnections string
	MaxPools, IdleTimeout, LeaseWarn, StaleServe        string
	PlanWeights                                         string
}

// Setting is one of them: its flag, its variable, what it means.
type Setting struct {
	Flag, Env, Default string
	Usage              string // with the form of the value between backquotes
	Value              *string
}

// Settings lists all of r, to be read from the environment and from flags.
func (r *Routing) Settings() []Setting {
	return []Setting{
		{
			"queue-wait", "FREEHOLD_QUEUE_WAIT", "5s",
			"longest `time` a request waits for a connection to its tenant's database; then it is answered 503 with Retry-After",
			&r.QueueWait,
		},
		{
			"pause-wait", "FREEHOLD_PAUSE_WAIT", "10s",
			"longest `time` a request waits while its tenant moves to another server; then 503",
			&r.PauseWait,
		},
		{
			"pause-queue", "FREEHOLD_PAUSE_QUEUE", "1000",
			"how `many` requests of one tenant may wait so; the next is answered 503 at once",
			&r.PauseQueue,
		},
		{
			"tenant-connections", "FREEHOLD_TENANT_CONNECTIONS", "8",
			"how `many` connections one tenant may hold on this node, so that it can't take a server's whole budget",
			&r.TenantConnections,
		},
		{
			"max-pools", "FREEHOLD_MAX_POOLS", "1024",
			"how `many` tenants have connections at a time; the least used ones make room, and come back when they are called",
			&r.MaxPools,
		},
		{
			"idle-timeout", "FREEHOLD_IDLE_TIMEOUT", "60s",
			"`time` after which a connection that nobody used is closed",
			&r.IdleTimeout,
		},
		{
			"lease-warn", "FREEHOLD_LEASE_WARN", "1s",
			"a connection that is lent out for longer than this `time` is logged with where it was taken",
			&r.LeaseWarn,
		},
		{
			"stale-serve", "FREEHOLD_STALE_SERVE", "60s",
			"`time` for which known tenants are served while the catalog can't be reached; a node that was silent 5s longer counts as dead. The same on every node",
			&r.StaleServe,
		},
		{
			"plan-weights", "FREEHOLD_PLAN_WEIGHTS", "",
			"`PLAN=N,...`: when a server is full, tenants of a plan get N turns for one of a plan that isn't named",
			&r.PlanWeights,
		},
	}
}

// routing is what Routing says.
type routing struct {
	queueWait, pauseWait, idleTimeout, leaseWarn, staleServe time.Duration
	pauseQueue, tenantConnections, maxPools                  int
	planWeights                                              map[string]int
}

// weight is a plan's in a server's queue.
func (r routing) weight(plan string) int { return max(1, r.planWeights[plan]) }

// Bounds beyond which a value is a slip of the pen.
const (
	minWait   = 10 * time.Millisecond
	maxWait   = time.Hour
	maxCount  = 1_000_000
	maxWeight = 1000
)

// parse reads all settings, and names each that can't be read.
func (r *Routing) parse() (routing, error) {
	var (
		out  routing
		errs []error
	)
	bad := func(s Setting, want string) {
		errs = append(errs, fmt.Errorf("%s: %q is not %s", s.Env, *s.Value, want))
	}
	settings := r.Settings()
	of := func(value *string) Setting {
		return settings[slices.IndexFunc(settings, func(s Setting) bool { return s.Value == value })]
	}
	wait := func(text *string) time.Duration {
		d, err := time.ParseDuration(*text)
		if err != nil || d < minWait || d > maxWait {
			bad(of(text), fmt.Sprintf("a time from %s to %s, such as %s", minWait, maxWait, of(text).Default))
		}
		return d
	}
	count := func(text *string) int {
		n, err := strconv.Atoi(*text)
		if err != nil || n < 1 || n > maxCount {
			bad(of(text), fmt.Sprintf("a whole number from 1 to %d", maxCount))
		}
		return n
	}
	out.queueWait, out.pauseWait, out.pauseQueue = wait(&r.QueueWait), wait(&r.PauseWait), count(&r.PauseQueue)
	out.tenantConnections, out.maxPools = count(&r.TenantConnections), count(&r.MaxPools)
	out.idleTimeout, out.leaseWarn, out.staleServe = wait(&r.IdleTimeout), wait(&r.LeaseWarn), wait(&r.StaleServe)
	var err error
	if out.planWeights, err = parseWeights(r.PlanWeights); err != nil {
		bad(of(&r.PlanWeights), err.Error())
	}
	return out, errors.Join(errs...)
}

// parseWeights reads standard=1,premium=4. The error completes "… is not".
func parseWeights(text string) (map[string]int, error) {
	weights := map[string]int{}
	if strings.TrimSpace(text) == "" {
		return weights, nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		plan, number, _ := strings.Cut(pair, "=")
		plan = strings.TrimSpace(plan)
		n, err := strconv.Atoi(strings.TrimSpace(number))
		if _, twice := weights[plan]; plan == "" || err != nil || n < 1 || n > maxWeight || twice {
			return nil, fmt.Errorf("PLAN=N with N from 1 to %d, each plan once, such as standard=1,premium=4", maxWeight)
		}
		weights[plan] = n
	}
	return weights, nil
}
