package chaos_test

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// ledger is what the test did, and so what the nodes must and mustn't do. Its
// times are those of the journals.
type ledger struct {
	mu sync.Mutex
	// Guarded by mu, by tenant; -1 is all of them:
	refused map[int][]spell // nobody is served
	fenced  map[int][]spell // nobody is served who decided on an older truth
	harmed  map[int][]spell // connections may break
	closed  map[int][]spell // connections may not be made
	revoked map[[2]int]spell
	faults  []fault
	pending []pending
	did     map[string]int
}

type spell struct {
	from, to int64
	epoch    int64
	why      string
}

// pending is an error of the operator's own call, which is all right when the
// server was away meanwhile.
type pending struct {
	fault
	from, to int64
}

func newLedger() *ledger {
	return &ledger{
		refused: map[int][]spell{}, fenced: map[int][]spell{}, harmed: map[int][]spell{}, closed: map[int][]spell{},
		revoked: map[[2]int]spell{}, did: map[string]int{},
	}
}

const (
	everybody = -1
	forever   = int64(math.MaxInt64)
)

func (l *ledger) enter(list map[int][]spell, tenant int, s spell) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list[tenant] = append(list[tenant], s)
}

func (l *ledger) wrong(of, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, fault{of, fmt.Sprintf(format, args...)})
}

func (l *ledger) doubt(from int64, of, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, pending{fault{of, fmt.Sprintf(format, args...)}, from, now()})
}

func (l *ledger) count(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.did[what]++
}

// during finds the spell that overlaps with a time, of the tenant or of all.
func during(list map[int][]spell, tenant int, from, to int64) bool {
	overlaps := func(s spell) bool { return s.from <= to && from <= s.to }
	return slices.ContainsFunc(list[tenant], overlaps) || slices.ContainsFunc(list[everybody], overlaps)
}

// verdict is what came of it, by guarantee.
type verdict struct {
	faults map[string][]string
	counts map[string]int // at the nodes
	did    map[string]int // by the test
}

// judge holds the nodes' pages against the ledger, once all has ended.
func (l *ledger) judge(nodes [][]page) verdict {
	v := verdict{faults: map[string][]string{}, counts: map[string]int{}, did: l.did}
	wrong := func(of, format string, args ...any) {
		v.faults[of] = append(v.faults[of], fmt.Sprintf(format, args...))
	}
	for _, f := range l.faults {
		wrong(f.Of, "%s", f.Text)
	}
	for _, p := range l.pending {
		if !during(l.harmed, everybody, p.from, p.to) {
			wrong(p.Of, "%s", p.Text)
		}
	}
	for n, pages := range nodes {
		for _, p := range pages {
			for what, count := range p.Counts {
				v.counts[what] += count
			}
			for _, f := range p.Wrong {
				wrong(f.Of, "node %d: %s", n, f.Text)
			}
			for _, s := range p.Served {
				if why := l.forbids(s); why != "" {
					wrong(truth, "node %d: tenant %d was served at %s", n, s.Tenant, why)
				}
			}
			for _, s := range p.Invalid {
				if r, ok := l.revoked[[2]int{s.Tenant, s.Key}]; !ok || s.At+int64(requestTime) < r.from {
					wrong(truth, "node %d: key %d of tenant %d was not taken", n, s.Key, s.Tenant)
				}
			}
			for _, h := range p.Broken {
				if !during(l.harmed, h.Tenant, h.From, h.To) {
					wrong(broken, "node %d: tenant %d, a borrow of class %d at %s, of %s: %s", n, h.Tenant, h.Class,
						clock(h.From), time.Duration(h.To-h.From), h.What)
				}
			}
			for _, h := range p.Lost {
				if !during(l.harmed, h.Tenant, h.From, h.To) && !during(l.closed, h.Tenant, h.From, h.To) {
					wrong(broken, "node %d: tenant %d, no connection at %s, of %s: %s", n, h.Tenant,
						clock(h.From), time.Duration(h.To-h.From), h.What)
				}
			}
		}
	}
	return v
}

// forbids says why a tenant should not have been served then.
func (l *ledger) forbids(s visit) string {
	for _, r := range l.refused[s.Tenant] {
		if r.from < s.At && s.At < r.to {
			return fmt.Sprintf("%s with epoch %d, %s after the bound, while %s", clock(s.At), s.Epoch, time.Duration(s.At-r.from), r.why)
		}
	}
	for _, f := range l.fenced[s.Tenant] {
		if f.from < s.At && s.Epoch < f.epoch {
			return fmt.Sprintf("%s with epoch %d, %s after the fence at %d (%s)", clock(s.At), s.Epoch, time.Duration(s.At-f.from), f.epoch, f.why)
		}
	}
	if r, ok := l.revoked[[2]int{s.Tenant, s.Key}]; ok && s.At > r.to {
		return fmt.Sprintf("%s with a key that was revoked", clock(s.At))
	}
	return ""
}

func clock(ns int64) string { return time.Unix(0, ns).Format("05.000") }
