package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/migrations"
)

// What a tenant of the benchmark consists of, by the bytes of its database, indexes
// included:
//   - predictions over the last twelve weeks, in their partitions, with some 100 words
//     asked and 80 answered each: about two thirds;
//   - for each of them its row of the ledger and of the audit, a thousand to a seal:
//     about a fifth together;
//   - a product's table of orders with three indexes: the rest.
//
// One request in four names an end user. Words are as unevenly frequent as a language's
// are: they pack as text does.
const (
	tenantWeeks     = 12
	bytesPerRequest = 2690 // of predictions, ledger and audit, as measured
	bytesPerOrder   = 320
	ordersPart      = 8 // of the bytes, one in so many
	wordsAsked      = 100
	wordsAnswered   = 80
	vocabulary      = 8000
	tenantKey       = "bench0000000000000000" // made them, long ago
)

// furnish fills a tenant's database, as its owner, up to about so many megabytes, and
// returns how many bytes it has then.
func (g *ground) furnish(ctx context.Context, database string, mb float64) (size int64, err error) {
	cfg, err := pgx.ParseConfig(g.server.URL(database))
	if err != nil {
		return 0, err
	}
	cfg.RuntimeParams["role"] = migrations.RoleOwner
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := conn.QueryRow(ctx, sizeOfDatabase).Scan(&size); err != nil {
		return 0, err
	}
	bytes := max(mb*(1<<20)-float64(size), 0)
	if _, err := conn.Exec(ctx, makeWeeks, tenantWeeks); err != nil {
		return 0, err
	}
	requests := &history{
		left: int(bytes * (ordersPart - 1) / ordersPart / bytesPerRequest), random: rand.New(rand.NewPCG(11, uint64(mb))),
		at: time.Now().AddDate(0, 0, -7*tenantWeeks),
	}
	requests.every = time.Until(requests.at).Abs() / time.Duration(max(1, requests.left+1))
	requests.learn()
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{"freehold", "predictions"}, historyColumns, requests); err != nil {
		return 0, err
	}
	if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range []string{lockSeals, insertSeals, insertSealed, insertLedgerRows, countUsed, makeShop} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, fillShop, int(bytes/ordersPart/bytesPerOrder))
		return err
	}); err != nil {
		return 0, err
	}
	// As a database that has lived for a while.
	if _, err := conn.Exec(ctx, "vacuum (analyze)"); err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, sizeOfDatabase).Scan(&size)
	return size, err
}

const (
	sizeOfDatabase = `select pg_database_size(current_database())`
	makeWeeks      = `select freehold.make_prediction_weeks(now() - make_interval(weeks => $1), $1 + 1)`

	// A node may be about to seal the tenant's first rows.
	lockSeals = `select pg_advisory_xact_lock(hashtext('freehold.seal_audit'))`

	// The heads and signatures are as long as real ones, and prove nothing.
	insertSeals = `
with had as (select coalesce(max(s.n), 0) as n from freehold.audit_seals s),
  made as (select g, count(*)::int as rows, max(o.at) as at
             from (select (row_number() over (order by p.id) - 1) / 1000 + 1 as g, p.created_at as at from freehold.predictions p) o
            group by g)
insert into freehold.audit_seals (n, rows, prev, head, sealed_at, key_id, signature)
select had.n + m.g, m.rows,
       coalesce((select s.head from freehold.audit_seals s where m.g = 1 and s.n = had.n), sha256(((had.n + m.g - 1)::text)::bytea)),
       sha256(((had.n + m.g)::text)::bytea), m.at, 1, decode(repeat('5a', 64), 'hex')
  from made m, had`

	insertSealed = `
with had as (
    select coalesce(max(s.n), 0) - (select (count(*) + 999) / 1000 from freehold.predictions) as n from freehold.audit_seals s)
insert into freehold.audit_log (id, at, actor, action, subject, request_id, detail, payload_hash, seal, pos)
select p.id, p.created_at, 'key:' || p.api_key, 'prediction', 'pred_' || p.id::text, p.request_id,
       json_build_object('kind', p.kind, 'model', p.model, 'state', p.state,
                         'prompt_tokens', p.prompt_tokens, 'completion_tokens', p.completion_tokens),
       p.payload_hash,
       had.n + (row_number() over (order by p.id) - 1) / 1000 + 1, (row_number() over (order by p.id) - 1) % 1000 + 1
  from freehold.predictions p, had`

	insertLedgerRows = `
insert into freehold.usage_ledger (id, request_id, api_key, kind, model, state, prompt_tokens, completion_tokens,
       input_price, output_price, cost, at, settled_at)
select p.id, p.request_id, p.api_key, p.kind, p.model, p.state, p.prompt_tokens, p.completion_tokens,
       500000000, 1500000000, p.prompt_tokens * 500 + p.completion_tokens * 1500, p.created_at, p.settled_at
  from freehold.predictions p order by p.id`

	countUsed = `
insert into freehold.tenant_counters as c (api_key, used)
select k.api_key, coalesce(sum(l.prompt_tokens + l.completion_tokens), 0)
  from (values (''), ('` + tenantKey + `')) as k (api_key)
  left join freehold.usage_ledger l on l.at >= date_trunc('month', now() at time zone 'utc') at time zone 'utc'
 group by k.api_key
    on conflict (api_key) do update set used = c.used + excluded.used`

	makeShop = `
create schema shop;
create table shop.orders (
    id        bigint generated always as identity primary key,
    customer  bigint not null,
    state     text   not null,
    lines     jsonb  not null,
    placed_at timestamptz not null default now()
);
create index orders_customer on shop.orders (customer);
create index orders_placed on shop.orders (placed_at);
grant usage on schema shop to freehold_tenant;
grant select, insert, update, delete on shop.orders to freehold_tenant`

	fillShop = `
insert into shop.orders (customer, state, lines, placed_at)
select (random() * 20000)::bigint, (array['placed', 'paid', 'sent', 'returned'])[1 + g % 4],
       jsonb_build_array(jsonb_build_object('sku', left(md5(g::text), 10), 'n', 1 + g % 5, 'price', round((random() * 90)::numeric, 2)),
                         jsonb_build_object('sku', left(md5((g / 7)::text), 10), 'n', 1, 'price', round((random() * 90)::numeric, 2))),
       now() - interval '1 year' * random()
  from generate_series(1, $1) g`
)

// history are a tenant's predictions of the past weeks: a pgx.CopyFromSource.
type history struct {
	left   int
	at     time.Time
	every  time.Duration
	random *rand.Rand
	words  []string
	row    []any
}

var historyColumns = []string{
	"id", "request_id", "api_key", "kind", "model", "state", "end_user", "input", "output",
	"prompt_tokens", "completion_tokens", "created_at", "settled_at", "salt", "payload_hash",
}

// learn makes the words, of two to eleven letters.
func (h *history) learn() {
	const letters = "eeeeeeaaaiiioootttnnnssshhrrddllcumwfgypbvkjxqz"
	for range vocabulary {
		var word strings.Builder
		for range 2 + h.random.IntN(10) {
			word.WriteByte(letters[h.random.IntN(len(letters))])
		}
		h.words = append(h.words, word.String())
	}
}

// say is about n words; the most frequent ones are as frequent as they are by Zipf.
func (h *history) say(n int) string {
	var text strings.Builder
	for i := range n/2 + h.random.IntN(n) {
		if i > 0 {
			text.WriteByte(' ')
		}
		u := h.random.Float64()
		text.WriteString(h.words[int(u*u*u*float64(len(h.words)))])
	}
	return text.String()
}

func (h *history) Next() bool {
	if h.left == 0 {
		return false
	}
	h.left--
	h.at = h.at.Add(h.every)
	id, salt, hash := h.id(), h.bytes(16), h.bytes(32)
	user := ""
	if h.random.IntN(4) == 0 {
		user = "user-" + h.words[h.random.IntN(500)]
	}
	input, _ := json.Marshal(map[string]any{"messages": []any{map[string]string{"role": "user", "content": h.say(wordsAsked)}}, "max_tokens": 200})
	output, _ := json.Marshal(map[string]any{"choices": []any{map[string]any{
		"index": 0, "finish_reason": "stop", "message": map[string]string{"role": "assistant", "content": h.say(wordsAnswered)},
	}}})
	asked, got := int64(wordsAsked+h.random.IntN(50)), int64(wordsAnswered+h.random.IntN(40))
	h.row = []any{
		id, uuid.UUID(h.bytes(16)).String(), tenantKey, "chat", benchModel, "succeeded", user, input, output,
		asked, got, h.at, h.at.Add(time.Second), salt, hash,
	}
	return true
}

func (h *history) Values() ([]any, error) { return h.row, nil }

func (h *history) Err() error { return nil }

// id is a uuid v7 of the moment (RFC 9562, section 5.7).
func (h *history) id() uuid.UUID {
	id := uuid.UUID(h.bytes(16))
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(h.at.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id
}

func (h *history) bytes(n int) []byte {
	out := make([]byte, n)
	for i := 0; i < n; i += 8 {
		binary.BigEndian.PutUint64(out[i:], h.random.Uint64())
	}
	return out
}
