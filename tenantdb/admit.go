package tenantdb

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Limits are what a tenant may use, and below that what the calling key may: nil
// is no limit of the key's own.
type Limits struct {
	Tokens    int64 // of the calendar month, UTC
	Slots     int   // requests at work at a time
	KeyTokens *int64
	KeySlots  *int
}

// Admission is a request that asks to be let in.
type Admission struct {
	// ID is a uuid v7, the prediction's; CreatedAt is the time in it.
	ID        uuid.UUID
	CreatedAt time.Time
	RequestID string
	Kind      string // chat, embedding, prediction
	Model     string
	Streamed  bool
	EndUser   string
	Input     json.RawMessage // nil: not kept
	// Least is what it can't do without, Most what it may use, in tokens.
	Least, Most int64
	Audit       bool // its settlement writes an audit row
	// IdempotencyKey, when there is one, is claimed for Claim: until its settlement
	// at least, and then for as long as an answer is kept.
	IdempotencyKey string
	RequestHash    []byte
	Claim          time.Duration
}

// Outcome of an admission.
type Outcome string

// The outcomes. Only Granted has written anything.
const (
	Granted Outcome = "granted"
	Spent   Outcome = "spent"   // fewer tokens are left in the month than it needs
	Busy    Outcome = "busy"    // every slot is taken
	Claimed Outcome = "claimed" // its Idempotency-Key is another request's
)

// Grant is the answer to an Admission.
type Grant struct {
	Outcome Outcome
	// Granted tokens, between Least and Most.
	Granted int64
	// What is left after it, the least of tenant and key.
	TokensLeft int64
	SlotsLeft  int
	// ByKey says that the key's own limit is the nearer one to what refused.
	ByKey bool
	// Others says that slots are taken by other processes.
	Others bool
	// Month is the first day of the month whose tokens these are.
	Month time.Time
}

const insertKeyCounters = `
insert into freehold.tenant_counters (api_key) values ($1) on conflict do nothing`

// Whoever waited here reads, in its next statement, what those before it wrote:
// each statement sees all that was committed before it began.
const lockCounters = `
select c.api_key from freehold.tenant_counters c
 where c.api_key = '' or c.api_key = any($1) order by c.api_key for no key update`

// The requests are decided in order, each on what those before it left: decided
// goes round once for each. All are of one key, so the nearer of the two limits
// is one number. Who is let in has a reservation; the statements behind it look for
// that. They are several because one of all their parts takes twice as long.
const reserve = `
with recursive counters as materialized (
    select c.api_key, m.month,
           case when c.month < m.month then 0 else c.used + c.reserved end as taken, c.in_flight
      from freehold.tenant_counters c,
           (select greatest(date_trunc('month', now() at time zone 'utc')::date, max(x.month)) -- should the clock go back
              from freehold.tenant_counters x where x.api_key in ('', $1)) as m (month)
     where c.api_key in ('', $1)
), room as materialized (
    select max(c.month) as month,
           $3 - max(c.taken) filter (where c.api_key = '') as tokens,
           $4 - max(c.taken) filter (where c.api_key = $1) as key_tokens,
           $5 - max(c.in_flight) filter (where c.api_key = '') as slots,
           $6 - max(c.in_flight) filter (where c.api_key = $1) as key_slots
      from counters c having count(*) = 2
), asked as materialized (
    select q.id, q.least, q.most, q.audit, q.key, q.n,
           q.key <> '' and exists (select from freehold.idempotency_keys i
               where i.api_key = $1 and i.key = q.key and i.expires_at > now()) as claimed
      from unnest($7::uuid[], $8::bigint[], $9::bigint[], $10::boolean[], $11::text[]) with ordinality
        as q (id, least, most, audit, key, n)
), decided as (
    select 0::bigint as n, '' as outcome, 0::bigint as granted, least(r.tokens, r.key_tokens) as tokens,
           least(r.slots, r.key_slots)::bigint as slots
      from room r
    union all
    select q.n, o.outcome, g.granted, d.tokens - g.granted, d.slots - (o.outcome = 'granted')::int
      from decided d
      join asked q on q.n = d.n + 1
     cross join lateral (select case when q.claimed then 'claimed' when d.tokens < q.least then 'spent'
                                     when d.slots < 1 then 'busy' else 'granted' end) as o (outcome)
     cross join lateral (select case when o.outcome = 'granted' then least(q.most, d.tokens) else 0 end) as g (granted)
), reserved as (
    insert into freehold.reservations (id, node, month, tokens, api_key, audit, idempotency_key, created_at)
    select q.id, $2, r.month, d.granted, $1, q.audit, q.key, now()
      from decided d join asked q on q.n = d.n, room r where d.outcome = 'granted'
)
select d.outcome, d.granted, greatest(d.tokens, 0) as tokens_left, greatest(d.slots, 0)::int as slots_left,
       case d.outcome when 'busy' then coalesce(r.key_slots <= r.slots, false)
                      else coalesce(r.key_tokens <= r.tokens, false) end as by_key,
       d.outcome = 'busy' and exists (select from freehold.reservations o where o.node <> $2 and o.slot) as others,
       r.month
  from decided d, room r where d.n > 0 order by d.n`

const insertPredictions = `
insert into freehold.predictions (id, request_id, api_key, kind, model, streamed, state, end_user, input, created_at)
select q.id, q.request_id, r.api_key, q.kind, q.model, q.streamed, 'in_progress', q.end_user, q.input, q.created_at
  from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[], $8::json[])
    as q (id, created_at, request_id, kind, model, streamed, end_user, input)
  join freehold.reservations r on r.id = q.id`

const insertClaims = `
insert into freehold.idempotency_keys as i (api_key, key, request_hash, prediction, expires_at)
select r.api_key, r.idempotency_key, q.request_hash, q.id, q.expires_at
  from unnest($1::uuid[], $2::bytea[], $3::timestamptz[]) as q (id, request_hash, expires_at)
  join freehold.reservations r on r.id = q.id
 where r.idempotency_key <> ''
    on conflict (api_key, key) do update
   set request_hash = excluded.request_hash, prediction = excluded.prediction, done = false, answer = null,
       expires_at = excluded.expires_at`

const countReserved = `
update freehold.tenant_counters c
   set month = r.month, used = case when c.month < r.month then 0 else c.used end,
       reserved = case when c.month < r.month then 0 else c.reserved end + r.tokens, in_flight = c.in_flight + r.requests
  from (select max(x.month) as month, sum(x.tokens)::bigint as tokens, count(*)::int as requests
          from freehold.reservations x where x.id = any($2)) as r
 where c.api_key in ('', $1) and r.requests > 0`

// AdmitAll decides on requests of one key, in order, in one round trip: the month's
// tokens, the slots, the Idempotency-Keys; what is granted is written as in
// progress. Two requests of one list must not bear the same Idempotency-Key.
// ErrFenced, or ErrInvalid when a value of any of them can't be stored: nothing was
// done then.
func (db *DB) AdmitAll(ctx context.Context, node uuid.UUID, key string, l Limits, list []Admission) ([]Grant, error) {
	for _, a := range list {
		if a.ID.Version() != 7 {
			return nil, fmt.Errorf("admit: %w: the id isn't a uuid v7", ErrInvalid)
		}
	}
	grants, err := db.admit(ctx, node, key, l, list, false)
	if err == nil && len(grants) == 0 {
		grants, err = db.admit(ctx, node, key, l, list, true) // the key's first request
	}
	if err == nil && len(grants) != len(list) {
		err = fmt.Errorf("%w: the tenant's counters are missing", ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("admit: %w", err)
	}
	return grants, nil
}

func (db *DB) admit(ctx context.Context, node uuid.UUID, key string, l Limits, list []Admission, first bool) (grants []Grant, err error) {
	in := columnsOf(list)
	b := db.fenced()
	if first {
		b.Queue(insertKeyCounters, key)
	}
	b.Queue(lockCounters, []string{key})
	b.Queue(reserve, key, node, l.Tokens, l.KeyTokens, l.Slots, l.KeySlots, in.ids, in.least, in.most, in.audit, in.keys).
		Query(func(rows pgx.Rows) error {
			grants, err = pgx.CollectRows(rows, pgx.RowToStructByName[Grant])
			return err
		})
	b.Queue(insertPredictions, in.ids, in.created, in.requests, in.kinds, in.models, in.streamed, in.users, in.inputs)
	if in.keyed {
		b.Queue(insertClaims, in.ids, in.hashes, in.expires)
	}
	b.Queue(countReserved, key, in.ids)
	return grants, db.send(ctx, b)
}

// admissions are a list's values as arrays.
type admissions struct {
	ids                                  []uuid.UUID
	created, expires                     []time.Time
	requests, kinds, models, users, keys []string
	streamed, audit                      []bool
	inputs                               []json.RawMessage
	hashes                               [][]byte
	least, most                          []int64
	keyed                                bool // one of them bears an Idempotency-Key
}

func columnsOf(list []Admission) (c admissions) {
	now := time.Now()
	for _, a := range list {
		c.ids, c.created = append(c.ids, a.ID), append(c.created, a.CreatedAt)
		c.requests, c.kinds, c.models = append(c.requests, a.RequestID), append(c.kinds, a.Kind), append(c.models, a.Model)
		c.streamed, c.users, c.inputs = append(c.streamed, a.Streamed), append(c.users, a.EndUser), append(c.inputs, a.Input)
		c.least, c.most, c.audit = append(c.least, a.Least), append(c.most, a.Most), append(c.audit, a.Audit)
		c.keys, c.hashes = append(c.keys, a.IdempotencyKey), append(c.hashes, a.RequestHash)
		c.expires = append(c.expires, now.Add(a.Claim))
		c.keyed = c.keyed || a.IdempotencyKey != ""
	}
	return c
}
