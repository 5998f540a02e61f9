package chaos_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/router"
	"freehold/tenantdb"
)

// work sends requests at random, and resets pools among them, until ctx ends. It
// returns when all requests have.
func (n *node) work(ctx context.Context) {
	var all sync.WaitGroup
	for range n.Workers {
		all.Go(func() {
			for ctx.Err() == nil {
				i := n.pick()
				n.request(ctx, i, rand.IntN(len(n.Tenants[i].Tokens)))
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			n.router.Reconnect(n.ids[n.pick()])
			time.Sleep(20 * time.Millisecond)
		}
	})
	all.Wait()
}

// pick is a hot tenant as often as any.
func (n *node) pick() int {
	if rand.IntN(2) == 0 {
		return rand.IntN(n.Hot)
	}
	return rand.IntN(len(n.ids))
}

// request is what an API's handler does: the key, a transaction, and sometimes a
// second one that settles. Some clients go away meanwhile.
func (n *node) request(ctx context.Context, i, k int) {
	// Requests end by themselves when the node stops.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
	defer cancel()
	if rand.IntN(5) == 0 {
		defer time.AfterFunc(time.Duration(rand.IntN(12_000))*time.Microsecond, cancel).Stop()
	}
	class := tenantdb.Interactive
	if rand.IntN(5) == 0 {
		class = tenantdb.Background
	}
	who, err := n.who(ctx, i, k)
	if err == nil {
		err = n.borrow(ctx, who, i, k, class)
	}
	if err != nil {
		time.Sleep(20 * time.Millisecond) // a refusal costs nothing, and would leave no time for the rest
		return
	}
	if rand.IntN(3) > 0 {
		return
	}
	settle, done := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
	defer done()
	_ = n.borrow(settle, who, i, k, tenantdb.Settle)
}

func (n *node) who(ctx context.Context, i, k int) (catalog.Identity, error) {
	at := now()
	who, err := n.cache.Authenticate(ctx, n.Tenants[i].Tokens[k])
	switch {
	case errors.Is(err, catalog.ErrInvalidKey):
		n.journal.note(func(p *page) { p.Invalid = append(p.Invalid, visit{Tenant: i, Key: k, At: at}) })
		n.journal.count("invalid key")
	case err != nil:
		n.typed(ctx, err)
	case who.Tenant != n.ids[i]:
		n.journal.wrong(foreign, "a key of %s names %s", n.ids[i], who.Tenant)
	}
	return who, err
}

func (n *node) borrow(ctx context.Context, who catalog.Identity, i, k int, class tenantdb.Class) error {
	var inside bool
	h := harm{Tenant: i, From: now(), Class: int(class)}
	at := h.From
	err := n.router.For(who.Tenant, who.Epoch).Borrow(ctx, class, func(ctx context.Context, db *tenantdb.DB) error {
		inside, at = true, now()
		return n.twoSteps(ctx, db, n.ids[i])
	})
	if err == nil {
		n.journal.note(func(p *page) { p.Served = append(p.Served, visit{i, k, who.Epoch, at}) })
		n.journal.count("served")
		return nil
	}
	h.To, h.What = now(), err.Error()
	switch away := errors.Is(err, tenantdb.ErrUnavailable) && ctx.Err() == nil; {
	case away && inside:
		h.From = at
		n.journal.note(func(p *page) { p.Broken = append(p.Broken, h) })
	case away:
		n.journal.note(func(p *page) { p.Lost = append(p.Lost, h) })
	}
	n.typed(ctx, err)
	return err
}

// twoSteps is a transaction that breaks when its connection is closed between,
// and that looks where it stands.
func (n *node) twoSteps(ctx context.Context, db *tenantdb.DB, want catalog.TenantID) error {
	return db.Tx(ctx, func(tx pgx.Tx) error {
		var got catalog.TenantID
		var before, after int64
		err := tx.QueryRow(ctx, `select i.tenant, pg_backend_pid() from freehold.tenant_identity i`).Scan(&got, &before)
		if err != nil {
			return err
		}
		if got != want {
			n.journal.wrong(foreign, "stood in the database of %s, want %s", got, want)
		}
		rest := time.Duration(rand.IntN(2000)) * time.Microsecond
		if rand.IntN(5) == 0 {
			rest = time.Duration(rand.IntN(100)) * time.Millisecond // long enough for everything to happen meanwhile
		}
		time.Sleep(rest)
		if err := tx.QueryRow(ctx, `select pg_backend_pid()`).Scan(&after); err != nil {
			return err
		}
		if before != after {
			n.journal.wrong(broken, "a transaction went on at another backend")
		}
		return nil
	})
}

// expected are the errors that a tenant's caller may be told here, the more
// telling first.
var expected = []struct {
	is   error
	name string
}{
	{router.ErrBusy, "busy"},
	{router.ErrSuspended, "suspended"},
	{router.ErrMoving, "moving"},
	{tenantdb.ErrFenced, "fenced"},
	{tenantdb.ErrUnavailable, "database unavailable"},
	{catalog.ErrUnavailable, "catalog unavailable"},
}

// typed counts an error by its name. One without any is a fault.
func (n *node) typed(ctx context.Context, err error) {
	if strings.Contains(err.Error(), "closed pool") {
		n.journal.wrong(typed, "%v", err)
		return
	}
	for _, e := range expected {
		if errors.Is(err, e.is) {
			n.journal.count(e.name)
			return
		}
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		n.journal.count(ctx.Err().Error())
		return
	}
	n.journal.wrong(typed, "%v", err)
}

// visitAll is the calm after: everybody has to be served soon.
func (n *node) visitAll() {
	const visitors = 8
	end := time.Now().Add(visitsTime)
	var next atomic.Int64
	var all sync.WaitGroup
	for range visitors {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(n.ids) {
					return
				}
				if time.Now().After(end) {
					n.journal.wrong(left, "not everybody is served within %s", visitsTime)
					return
				}
				n.visit(i)
			}
		})
	}
	all.Wait()
}

func (n *node) visit(i int) {
	for end := time.Now().Add(visitTime); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), requestTime)
		who, err := n.who(ctx, i, 0)
		if err == nil {
			err = n.borrow(ctx, who, i, 0, tenantdb.Interactive)
		}
		cancel()
		if err == nil {
			n.journal.count("visited in the end")
			return
		}
		if time.Now().After(end) {
			n.journal.wrong(left, "tenant %d is not served: %v", i, err)
			return
		}
	}
}
