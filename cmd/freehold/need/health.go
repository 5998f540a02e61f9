package need

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"freehold/router"
)

// Health is what a node says of itself with its heartbeat: only what is not as it
// should be.
type Health struct {
	Servers []ServerHealth `json:"servers,omitempty"`
}

// ServerHealth is a server as a node sees it.
type ServerHealth struct {
	Name    string `json:"name"`
	Breaker string `json:"breaker,omitempty"` // open or half-open; empty: closed
	Error   string `json:"error,omitempty"`   // why, last
	// WaitMillis is for how long the oldest of Waiting callers waits.
	WaitMillis int64 `json:"wait_ms,omitempty"`
	Waiting    int   `json:"waiting,omitempty"`
}

const (
	// longWait is a queue that a person should know of.
	longWait = time.Second
	// What a node says is bounded: a long list says no more than a short one.
	maxServers = 20
	maxBytes   = 8 << 10
)

// NodeHealth is what a node has to say, given its router's servers.
func NodeHealth(servers []router.ServerView) Health {
	var h Health
	for _, s := range servers {
		closed := s.Breaker == "closed"
		if closed && s.OldestWait < longWait {
			continue
		}
		one := ServerHealth{Name: s.Name, WaitMillis: s.OldestWait.Milliseconds(), Waiting: s.Waiting}
		if !closed {
			one.Breaker, one.Error = s.Breaker, line(s.LastError)
		}
		h.Servers = append(h.Servers, one)
	}
	slices.SortStableFunc(h.Servers, func(a, b ServerHealth) int {
		return cmp.Or(cmp.Compare(b.Breaker, a.Breaker), cmp.Compare(b.WaitMillis, a.WaitMillis), cmp.Compare(a.Name, b.Name))
	})
	h.Servers = h.Servers[:min(len(h.Servers), maxServers)]
	return h
}

// JSON is as the catalog keeps it, at most 8 kB: the worst that fits.
func (h Health) JSON() []byte {
	for ; ; h.Servers = h.Servers[:len(h.Servers)/2] {
		if text, err := json.Marshal(h); err == nil && len(text) <= maxBytes {
			return text
		}
		if len(h.Servers) == 0 {
			return []byte("{}")
		}
	}
}

// parseHealth reads what a node wrote, perhaps one of another release: what can't
// be read is nothing.
func parseHealth(text []byte) (h Health) {
	if json.Unmarshal(text, &h) != nil {
		return Health{}
	}
	return h
}
