package router

import (
	"errors"
	"fmt"
	"time"

	"github.com/sony/gobreaker/v2"

	"freehold/tenantdb"
)

// breaker keeps a server, or a tenant's database, from being dialled over and
// over while it can't answer. A busy one trips none.
type breaker = *gobreaker.TwoStepCircuitBreaker[struct{}]

type breakerKind struct {
	name    string
	trips   uint32        // failures in a row
	open    time.Duration // and how long nobody dials then
	counted func(err error) bool
}

var (
	serverBreaker = breakerKind{"server", 5, 2 * time.Second, isServersFault}
	tenantBreaker = breakerKind{"tenant", 5, time.Second, isTenantsFault}
)

func newBreaker(kind breakerKind) breaker {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:        kind.name,
		MaxRequests: 1,
		Timeout:     kind.open,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= kind.trips },
		// What is neither success nor this breaker's failure leaves it as it is.
		IsExcluded: func(err error) bool { return err != nil && !kind.counted(err) },
	})
}

// isServersFault reports whether a failed dial tells of the server: it is not
// reached, or takes no connections. Being full is not a fault.
func isServersFault(err error) bool {
	switch state := sqlState(err); {
	case errors.Is(err, ErrClosed), errors.Is(err, errGone), errors.Is(err, tenantdb.ErrForeign):
		return false
	case state == "":
		return true // network or timeout
	default:
		return state == cannotConnectNow || state == adminShutdown || state == crashShutdown || state[:2] == connectionException
	}
}

// isTenantsFault reports whether a failed dial tells of one tenant's database.
func isTenantsFault(err error) bool {
	switch sqlState(err) {
	case invalidPassword, invalidAuthorization, unknownDatabase, insufficientPrivilege, notAccepting:
		return true
	}
	return errors.Is(err, tenantdb.ErrForeign)
}

// errBroken is what a borrower is told while a breaker is open.
var errBroken = fmt.Errorf("open connection: %w: breaker open", tenantdb.ErrUnavailable)

func broken(whose string) error {
	return fmt.Errorf("%w: %s failed several times in a row", errBroken, whose)
}

// broken refuses a borrower for whom a connection would have to be made that a
// breaker forbids. It holds mu.
func (r *Router) broken(p *pool) error {
	switch {
	case p.ready+p.dials > 0:
		return nil
	case p.srv.breaker.State() == gobreaker.StateOpen:
		return broken("the server")
	case p.rec.breaker != nil && (*p.rec.breaker).State() == gobreaker.StateOpen:
		return broken("the tenant")
	}
	return nil
}

// allow asks both breakers for a dial, and returns where to report its outcome.
func (r *Router) allow(p *pool) (report func(error), err error) {
	r.mu.Lock()
	tenants := p.rec.breaker
	r.mu.Unlock()
	server, err := p.srv.breaker.Allow()
	if err != nil {
		return nil, broken("the server")
	}
	tenant := func(error) {}
	if tenants != nil {
		if tenant, err = (*tenants).Allow(); err != nil {
			server(ErrClosed) // no outcome: nothing was dialled
			return nil, broken("the tenant")
		}
	}
	return func(err error) {
		server(err)
		if tenants == nil && err != nil && isTenantsFault(err) {
			tenant = r.watch(p.rec)
		}
		tenant(err)
	}, nil
}

// watch gives a tenant that failed for the first time a breaker.
func (r *Router) watch(rec *record) func(error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec.breaker == nil {
		b := newBreaker(tenantBreaker)
		rec.breaker = &b
	}
	done, err := (*rec.breaker).Allow()
	if err != nil {
		return func(error) {}
	}
	return done
}
