package router

import (
	"time"

	"freehold/tenantdb"
)

// waiter is a borrower that waits for a connection of its tenant's. Guarded by
// Router.mu, but for ready.
type waiter struct {
	class    tenantdb.Class
	at       time.Time
	ready    chan struct{} // closed when lease or err is set
	lease    *lease
	err      error
	queued   bool
	next     *waiter
	previous *waiter
}

// order is the order in which a tenant's own borrowers are served.
var order = [...]tenantdb.Class{tenantdb.Settle, tenantdb.Interactive, tenantdb.Background}

// line is a first-in, first-out line that can be left from anywhere.
type line struct {
	first, last *waiter
	length      int
}

func (l *line) join(w *waiter) {
	w.previous, w.next = l.last, nil
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
	l.length++
	w.queued = true
}

func (l *line) leave(w *waiter) {
	if !w.queued {
		return
	}
	if w.previous == nil {
		l.first = w.next
	} else {
		w.previous.next = w.next
	}
	if w.next == nil {
		l.last = w.previous
	} else {
		w.next.previous = w.previous
	}
	w.next, w.previous, w.queued = nil, nil, false
	l.length--
}

// waiters are a pool's borrowers that wait, a line for each class.
type waiters [len(order)]line

func (ws *waiters) line(class tenantdb.Class) *line { return &ws[int(class)%len(ws)] }

func (ws *waiters) len() int {
	n := 0
	for i := range ws {
		n += ws[i].length
	}
	return n
}

// urgency is the place in order of the most urgent class that waits; beyond the
// last when nobody does.
func (ws *waiters) urgency() int {
	for i, class := range order {
		if ws.line(class).length > 0 {
			return i
		}
	}
	return len(order)
}

// before reports whether somebody waits whom a newcomer of the class follows.
func (ws *waiters) before(class tenantdb.Class) bool {
	for _, c := range order {
		if ws.line(c).length > 0 {
			return true
		}
		if c == class {
			return false
		}
	}
	return false
}

// oldest is when the one came who waits longest; zero when nobody does.
func (ws *waiters) oldest() time.Time {
	var at time.Time
	for i := range ws {
		if w := ws[i].first; w != nil && (at.IsZero() || w.at.Before(at)) {
			at = w.at
		}
	}
	return at
}
