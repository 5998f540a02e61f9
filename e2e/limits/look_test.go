package limits_test

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
)

// book is a way to look into a tenant's database beside what is tested, one look
// at a time.
type book struct {
	*ground
	of   catalog.TenantID
	mu   sync.Mutex // guards conn
	conn *pgx.Conn
}

func (g *ground) open(t catalog.Tenant) *book {
	g.Helper()
	route, err := g.cat.Route(g.Context(), t.ID)
	g.ok(err)
	cfg, err := pgx.ParseConfig(pgtest.SuperURL(g))
	g.ok(err)
	cfg.Database = route.Config.Database
	b := &book{ground: g, of: t.ID}
	b.conn, err = pgx.ConnectConfig(g.Context(), cfg)
	g.ok(err)
	g.Cleanup(func() { _ = b.conn.Close(context.Background()) })
	return b
}

// try reads one row.
func (b *book) try(sql string, args []any, into ...any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conn.QueryRow(b.Context(), sql, args...).Scan(into...)
}

// read is try where an error ends the test.
func (b *book) read(sql string, args []any, into ...any) {
	b.Helper()
	b.ok(b.try(sql, args, into...))
}

func (b *book) exec(sql string, args ...any) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err := b.conn.Exec(b.Context(), sql, args...)
	b.ok(err)
}

// account is how the tenant stands: by its counters, and by the rows that these
// must agree with.
type account struct {
	used, reserved, inFlight    int64 // counters
	billed, granted, slots      int64 // rows: tokens of the ledger; tokens and slots of reservations
	reservations, atWork        int64
	predictions, ledger, audits int64
	unfinished                  int64 // Idempotency-Keys of requests that aren't done
}

const selectAccount = `
select coalesce(max(c.used), 0), coalesce(max(c.reserved), 0), coalesce(max(c.in_flight), 0),
       (select coalesce(sum(l.prompt_tokens + l.completion_tokens), 0)::bigint from freehold.usage_ledger l),
       (select coalesce(sum(r.tokens), 0)::bigint from freehold.reservations r),
       (select count(*) from freehold.reservations r where r.slot),
       (select count(*) from freehold.reservations r),
       (select count(*) from freehold.predictions p where p.state = 'in_progress'),
       (select count(*) from freehold.predictions p),
       (select count(*) from freehold.usage_ledger l),
       (select count(*) from freehold.audit_log a where a.action = 'prediction'),
       (select count(*) from freehold.idempotency_keys i where not i.done)
  from freehold.tenant_counters c where c.api_key = ''`

func (b *book) account() (a account, err error) {
	return a, b.try(selectAccount, nil, &a.used, &a.reserved, &a.inFlight, &a.billed, &a.granted, &a.slots,
		&a.reservations, &a.atWork, &a.predictions, &a.ledger, &a.audits, &a.unfinished)
}

// selectStranded says of what is left where it comes from.
const selectStranded = `
select coalesce(string_agg(concat_ws(' ', r.id, 'of node', r.node, 'slot', r.slot, p.state, 'streamed', p.streamed,
                                     'key', r.idempotency_key, 'admitted', p.created_at), E'\n'), '')
  from freehold.reservations r left join freehold.predictions p on p.id = r.id`

// settled waits until nothing is at work, or left by a process that was killed,
// and checks that all accounts agree then.
func (b *book) settled() account {
	b.Helper()
	var (
		a       account
		visited time.Time
	)
	for end := time.Now().Add(settleTime); ; time.Sleep(20 * time.Millisecond) {
		if time.Since(visited) > visitEvery {
			b.visit()
			visited = time.Now()
		}
		var err error
		a, err = b.account()
		b.ok(err)
		if a.reservations == 0 && a.atWork == 0 {
			break
		}
		if time.Now().After(end) {
			var left string
			b.read(selectStranded, nil, &left)
			b.Fatalf("after %s something is left: %+v\n%s", settleTime, a, left)
		}
	}
	if a.reserved != 0 || a.inFlight != 0 || a.unfinished != 0 || a.predictions != a.ledger || a.predictions != a.audits {
		b.Errorf("the accounts don't agree: %+v", a)
	}
	return a
}

// visit has a worker come soon, who would come within the minute.
func (b *book) visit() {
	b.Helper()
	b.ok(b.cat.MarkDue(b.Context(), b.of, 0))
}

const visitEvery = 500 * time.Millisecond

// settleTime is how long a worker may take until it has been at a tenant's again.
const settleTime = 40 * time.Second

// until waits for a condition.
func (g *ground) until(what string, within time.Duration, ok func() bool) {
	g.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			g.Fatalf("waited in vain until %s", what)
		}
	}
}

const (
	ageNodes        = `update nodes set heartbeat_at = heartbeat_at - interval '1 hour' where name like '%/' || $1::int`
	ageReservations = `update freehold.reservations set created_at = created_at - interval '1 hour' where node = any($1)`
	selectNodes     = `select coalesce(array_agg(id), '{}') from nodes where name like '%/' || $1::int`
)

// outlast lets the time pass after which killed processes count as dead. Short
// tests have it pass in the rows that tell of them.
func (b *book) outlast(pids []int) {
	b.Helper()
	if pgtest.Long() {
		time.Sleep(catalog.DeadAfter(staleServe))
		return
	}
	conn, err := pgx.Connect(b.Context(), b.catalogURL)
	b.ok(err)
	defer conn.Close(context.WithoutCancel(b.Context()))
	for _, pid := range pids {
		var nodes [][16]byte
		b.ok(conn.QueryRow(b.Context(), selectNodes, pid).Scan(&nodes))
		_, err := conn.Exec(b.Context(), ageNodes, pid)
		b.ok(err)
		b.exec(ageReservations, nodes)
	}
}
