package chaos_test

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
)

// operator makes trouble, one tenant at a time for each of its goroutines, and
// writes down what follows from it.
type operator struct {
	*ground
	*ledger
	hot int

	mu    sync.Mutex
	taken map[int]bool // guarded by mu: tenants in trouble
	spent map[int]int  // guarded by mu: how many keys were revoked

	// wire is held while the catalog is cut off, by whoever needs that it isn't or
	// sees to it.
	wire sync.Mutex
}

const (
	// callTime bounds an operator's call. A move waits for dead nodes.
	callTime = 15 * time.Second
	// refuseWithin is G5's promise.
	refuseWithin = int64(time.Second)
	// noticed is how long a connection that was lost may go unnoticed, idle as
	// it is, and how long a breaker keeps callers away after that.
	noticed   = int64(2 * time.Second)
	breakTime = int64(5 * time.Second)
)

// troubled has fn make trouble for a tenant, a hot one mostly, that has none now;
// for nobody when all have.
func (o *operator) troubled(fn func(i int)) {
	i, ok := o.claim()
	if !ok {
		time.Sleep(10 * time.Millisecond)
		return
	}
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.taken, i)
	}()
	fn(i)
}

func (o *operator) claim() (i int, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for range 20 {
		i = mathrand.IntN(o.hot)
		if mathrand.IntN(4) == 0 {
			i = mathrand.IntN(len(o.ids))
		}
		if !o.taken[i] {
			o.taken[i] = true
			return i, true
		}
	}
	return 0, false
}

// call is a context for a call that the end of the run must not cut short.
func call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), callTime)
}

// rest waits for d, or until the run ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func between(from, to time.Duration) time.Duration { return from + mathrand.N(to-from) }

// attempt runs a change that must bind. With an error what was changed may not
// be fenced, which only a server that was away excuses.
func (o *operator) attempt(what string, i int, change func(context.Context) error) (bound bool, returned int64) {
	ctx, cancel := call()
	defer cancel()
	began := now()
	err := change(ctx)
	returned = now()
	o.count(what)
	if err != nil {
		o.doubt(began, truth, "%s, tenant %d: %v", what, i, err)
		return false, returned
	}
	t, err := o.cat.Tenant(ctx, o.ids[i])
	if err != nil {
		o.wrong(left, "read tenant: %v", err)
		return false, returned
	}
	o.enter(o.fenced, i, spell{from: returned, epoch: t.Epoch, why: what})
	return true, returned
}

// insist repeats what has to succeed in the end.
func (o *operator) insist(what string, i int, change func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*callTime)
	defer cancel()
	for {
		err := change(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil || !errors.Is(err, fleet.ErrUnfenced) {
			o.wrong(left, "%s, tenant %d: %v", what, i, err)
			return
		}
	}
}

// suspend stops a tenant for a while.
func (o *operator) suspend(ctx context.Context) {
	o.troubled(func(i int) { o.suspendOne(ctx, i) })
}

func (o *operator) suspendOne(ctx context.Context, i int) {
	began := now()
	bound, returned := o.attempt("suspend", i, func(ctx context.Context) error { return o.fleet.Suspend(ctx, o.ids[i]) })
	rest(ctx, between(1200*time.Millisecond, 3*time.Second))
	if bound {
		o.enter(o.refused, i, spell{from: returned + refuseWithin, to: now(), why: "suspended"})
	}
	o.insist("resume", i, func(ctx context.Context) error { return o.fleet.Resume(ctx, o.ids[i]) })
	o.enter(o.harmed, i, spell{from: began, to: now() + noticed})
}

// pause stops a tenant as for a move. That harms nobody.
func (o *operator) pause(ctx context.Context) {
	o.troubled(func(i int) { o.pauseOne(ctx, i) })
}

func (o *operator) pauseOne(ctx context.Context, i int) {
	var p fleet.Paused
	bound, returned := o.attempt("pause", i, func(ctx context.Context) (err error) {
		p, err = o.fleet.Pause(ctx, o.ids[i])
		return err
	})
	if !bound {
		return
	}
	rest(ctx, between(0, 300*time.Millisecond))
	o.enter(o.refused, i, spell{from: returned, to: now(), why: "paused"})
	o.insist("end pause", i, p.Resume)
}

// revoke takes one of a hot tenant's keys away for good.
func (o *operator) revoke(context.Context) {
	o.troubled(func(i int) { o.revokeOne(i) })
}

func (o *operator) revokeOne(i int) {
	o.mu.Lock()
	k := o.spent[i] + 1
	if k >= len(o.keyIDs[i]) {
		o.mu.Unlock()
		return
	}
	o.spent[i] = k
	o.mu.Unlock()
	began := now()
	bound, returned := o.attempt("revoke", i, func(ctx context.Context) error {
		return o.fleet.RevokeKey(ctx, o.ids[i], o.keyIDs[i][k])
	})
	until := forever
	if bound {
		until = returned + refuseWithin
	}
	o.ledger.mu.Lock()
	o.revoked[[2]int{i, k}] = spell{from: began, to: until}
	o.ledger.mu.Unlock()
}

// rotate gives a tenant's role another password, on the server first. In between
// its connections can't be made.
func (o *operator) rotate(context.Context) {
	o.troubled(func(i int) { o.rotateOne(i) })
}

func (o *operator) rotateOne(i int) {
	o.wire.Lock()
	defer o.wire.Unlock()
	ctx, cancel := call()
	defer cancel()
	began := now()
	password := rand.Text()
	// The change of the password must outlast a crash, and an answer that a crash
	// took doesn't tell whether it was made: it is made again until one tells so.
	change := "set synchronous_commit = on; alter role " + pgx.Identifier{o.ids[i].DatabaseName()}.Sanitize() + " password '" + password + "'"
	for {
		err := asSuper(ctx, o.superURL, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, change)
			return err
		})
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			o.wrong(left, "rotate: %v", err)
			return
		}
		o.doubt(began, left, "rotate: %v", err)
		rest(ctx, 20*time.Millisecond)
	}
	if err := o.reseal(ctx, o.ids[i], password); err != nil {
		o.wrong(left, "rotate: %v", err)
		return
	}
	o.count("rotate")
	o.enter(o.closed, i, spell{from: began, to: now() + noticed})
	time.Sleep(time.Second) // for the nodes to hear of it
}

const reseal = `
update tenants set secret = $2, secret_key_id = $3, epoch = catalog_tick(false) where id = $1`

// reseal writes a tenant's new password into the catalog as its creation does.
func (o *operator) reseal(ctx context.Context, id catalog.TenantID, password string) error {
	sealed, key, err := o.keys.Seal([]byte(password), "tenant:"+id.String())
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, o.catalogURL(address(o.catalogs)))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, reseal, id, sealed, key)
	return err
}

const terminate = `select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1`

// terminate ends a tenant's sessions as an administrator would.
func (o *operator) terminate(context.Context) {
	o.troubled(func(i int) { o.terminateOne(i) })
}

func (o *operator) terminateOne(i int) {
	ctx, cancel := call()
	defer cancel()
	began := now()
	err := asSuper(ctx, o.superURL, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, terminate, o.ids[i].DatabaseName())
		return err
	})
	if err != nil {
		o.doubt(began, left, "terminate: %v", err)
		return
	}
	o.count("terminate")
	o.enter(o.harmed, i, spell{from: began, to: now() + noticed})
}
