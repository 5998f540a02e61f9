package router

import (
	"math"
	"time"

	"freehold/catalog"
)

const (
	// maxRecords bounds what is remembered of tenants that have no pool.
	maxRecords = 16384
	// keep is what is left of a tenant's heat after each tick of a second: half
	// after 23. It ranks hundreds of tenants, for which a few seconds' borrows are
	// too few to tell them apart.
	keep = 0.97
	// keepRate is the same for the rate that people are shown, half after 3.
	keepRate = 0.8
	// maxEvents bounds the errors and the decisions that are told of a tenant.
	maxEvents = 8
)

// record is what outlives a tenant's pool: how busy it is, what it was served,
// and why it failed. Guarded by Router.mu.
type record struct {
	heat float32 // borrows, each one fading
	rate float32 // the same, and sooner
	tick int32   // the router's tick that both are as of
	// pass is the service that it had in this era of its server's, in seconds
	// over its weight.
	pass    float64
	era     int
	lease   time.Duration // moving average of its leases
	breaker *breaker      // nil until something fails

	errors, decisions []Event // newest last
}

// record returns the tenant's, made when there is none. It holds mu.
func (r *Router) record(id catalog.TenantID) *record {
	rec, ok := r.records.Get(id)
	if !ok {
		rec = &record{tick: r.tick}
		r.records.Add(id, rec)
	}
	return rec
}

// cool fades the heat to now and returns it.
func (rec *record) cool(tick int32) float32 {
	if passed := tick - rec.tick; passed > 0 {
		rec.heat *= float32(math.Pow(keep, float64(passed)))
		rec.rate *= float32(math.Pow(keepRate, float64(passed)))
		rec.tick = tick
	}
	return rec.heat
}

// touch counts a borrow.
func (rec *record) touch(tick int32) {
	rec.heat = rec.cool(tick) + 1
	rec.rate++
}

// perSecond is the recent rate of borrows.
func (rec *record) perSecond(tick int32) float64 {
	rec.cool(tick)
	return float64(rec.rate) * (1 - keepRate)
}

// served accounts for a lease that has ended.
func (rec *record) served(s *server, took time.Duration, weight int) {
	rec.enter(s)
	rec.pass += took.Seconds() / float64(weight)
	// Time goes on with the service, as far as it leaves nobody behind who is in
	// need: who comes next is level with those, and not with the last to dial.
	now := rec.pass
	if len(s.needs) > 0 {
		now = min(now, s.needs[0].rec.pass)
	}
	s.vnow = max(s.vnow, now)
	rec.lease = average(rec.lease, took)
}

// enter gives whoever comes anew the pass of those that are served now: neither
// credit for having been away nor a debt from before.
func (rec *record) enter(s *server) {
	if rec.era != s.era {
		rec.era, rec.pass = s.era, s.vnow
		return
	}
	rec.pass = max(rec.pass, s.vnow)
}

// average is a moving average that forgets half in about five values.
func average(old, v time.Duration) time.Duration {
	if old == 0 {
		return v
	}
	return old + (v-old)/8
}

func (rec *record) failed(text string) { rec.errors = note(rec.errors, text) }

func (rec *record) decided(text string) { rec.decisions = note(rec.decisions, text) }

// note keeps the newest; the same again only moves the time.
func note(list []Event, text string) []Event {
	now := time.Now()
	if n := len(list); n > 0 && list[n-1].Text == text {
		list[n-1].At = now
		return list
	}
	if len(list) == maxEvents {
		list = append(list[:0], list[1:]...)
	}
	return append(list, Event{At: now, Text: text})
}
