package tenantdb

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Settlement is how an admitted request ended, with all that is written down of
// it. It can be kept as JSON until the database is there again.
type Settlement struct {
	ID        uuid.UUID `json:"id"`
	At        time.Time `json:"at"` // of its admission
	RequestID string    `json:"request_id"`
	APIKey    string    `json:"api_key"`
	Kind      string    `json:"kind"`
	Model     string    `json:"model"`
	State     string    `json:"state"` // succeeded, failed, cancelled, interrupted
	ErrorCode string    `json:"error_code,omitempty"`

	Output      json.RawMessage `json:"output,omitempty"` // nil: not kept
	Salt        []byte          `json:"salt,omitempty"`   // of PayloadHash; nil when nothing is kept
	PayloadHash []byte          `json:"payload_hash,omitempty"`

	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	// Used is what the month's limit takes: all that was granted, where nobody knows
	// how much was used.
	Used int64 `json:"used"`
	// Prices of a million tokens and the cost of this request, in nano-units.
	InputPrice  int64 `json:"input_price"`
	OutputPrice int64 `json:"output_price"`
	Cost        int64 `json:"cost"`

	// Detail is the audit row's: a JSON object without content.
	Detail json.RawMessage `json:"detail,omitempty"`

	// IdempotencyKey is the one that the request claimed; empty: none.
	IdempotencyKey string `json:"idempotency_key,omitempty"`
	// Replay says that the claimed Idempotency-Key is kept, with Answer (sealed; nil:
	// too large). Else the key is free again: the same request is a new attempt.
	Replay bool   `json:"replay,omitempty"`
	Answer []byte `json:"answer,omitempty"`
}

// Of two settlements of one request the second waits here, and finds nothing to do:
// what follows is gated by the reservations, which go last.
const lockReservations = `
select r.id from freehold.reservations r where r.id = any($1) order by r.id for update`

// The bounds of the ids prune partitions, which an array doesn't.
const endPredictions = `
update freehold.predictions p
   set state = t.state, error_code = t.error_code, output = t.output, salt = t.salt, payload_hash = t.payload_hash,
       prompt_tokens = t.prompt_tokens, completion_tokens = t.completion_tokens, settled_at = now()
  from unnest($1::uuid[], $2::text[], $3::text[], $4::json[], $5::bytea[], $6::bytea[], $7::bigint[], $8::bigint[])
    as t (id, state, error_code, output, salt, payload_hash, prompt_tokens, completion_tokens)
  join freehold.reservations r on r.id = t.id
 where p.id between $9 and $10 and p.id = t.id and p.state = 'in_progress'`

// The ledger and the counters take what was used, also when that is more than was
// granted: the engine's count is the truth.
const insertLedger = `
insert into freehold.usage_ledger (id, request_id, api_key, kind, model, state, prompt_tokens, completion_tokens,
       input_price, output_price, cost, at)
select t.id, t.request_id, r.api_key, t.kind, t.model, t.state, t.prompt_tokens, t.completion_tokens,
       t.input_price, t.output_price, t.cost, t.at
  from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
              $9::bigint[], $10::bigint[], $11::timestamptz[])
    as t (id, request_id, kind, model, state, prompt_tokens, completion_tokens, input_price, output_price, cost, at)
  join freehold.reservations r on r.id = t.id`

const insertAudit = `
insert into freehold.audit_log (id, at, actor, action, subject, request_id, detail, payload_hash)
select t.id, now(), 'key:' || r.api_key, 'prediction', 'pred_' || t.id::text, t.request_id, t.detail, t.payload_hash
  from unnest($1::uuid[], $2::text[], $3::json[], $4::bytea[]) as t (id, request_id, detail, payload_hash)
  join freehold.reservations r on r.id = t.id
 where r.audit`

const keepAnswers = `
update freehold.idempotency_keys i set done = true, answer = t.answer
  from unnest($1::uuid[], $2::boolean[], $3::bytea[]) as t (id, replay, answer)
  join freehold.reservations r on r.id = t.id
 where t.replay and i.api_key = r.api_key and i.key = r.idempotency_key and i.prediction = t.id`

const freeClaims = `
delete from freehold.idempotency_keys i
 using unnest($1::uuid[], $2::boolean[]) as t (id, replay)
  join freehold.reservations r on r.id = t.id
 where not t.replay and i.api_key = r.api_key and i.key = r.idempotency_key and i.prediction = t.id`

// Tokens of a month that is over are nobody's any more.
const countSettled = `
update freehold.tenant_counters c
   set reserved = c.reserved - coalesce(b.tokens, 0), used = c.used + coalesce(b.used, 0), in_flight = c.in_flight - b.slots
  from (select k.api_key, count(*) filter (where r.slot)::int as slots,
               sum(r.tokens) filter (where r.month = n.month)::bigint as tokens,
               sum(t.used) filter (where r.month = n.month)::bigint as used
          from unnest($1::uuid[], $2::bigint[]) as t (id, used)
          join freehold.reservations r on r.id = t.id
         cross join lateral (values (''), (r.api_key)) as k (api_key)
          join freehold.tenant_counters n on n.api_key = k.api_key
         group by k.api_key) as b
 where c.api_key = b.api_key`

const deleteReservations = `
delete from freehold.reservations r where r.id = any($1) returning r.id`

// SettleAll ends admitted requests, each exactly once: what it returns says for
// each whether this call settled it, false when it was settled before, or never
// admitted. It isn't fenced: what was admitted is accounted for. ErrInvalid when a
// value of any of them can't be stored; nothing was done then.
func (db *DB) SettleAll(ctx context.Context, list []Settlement) ([]bool, error) {
	for _, s := range list {
		if s.State == "in_progress" {
			return nil, fmt.Errorf("settle: %w: in_progress is no end", ErrInvalid)
		}
	}
	in := settlementsOf(list)
	first, last := bounds(in.ids)
	b := new(pgx.Batch)
	b.Queue(lockReservations, in.ids)
	b.Queue(endPredictions, in.ids, in.states, in.codes, in.outputs, in.salts, in.hashes, in.prompt, in.completion,
		first, last)
	b.Queue(insertLedger, in.ids, in.requests, in.kinds, in.models, in.states, in.prompt, in.completion,
		in.inputPrices, in.outputPrices, in.costs, in.at)
	b.Queue(insertAudit, in.ids, in.requests, in.details, in.hashes)
	// All of a tenant's requests meet at its counters: they are held no longer than
	// for the commit.
	b.Queue(lockCounters, in.keys)
	if in.keyed { // in the order in which an admission takes them
		b.Queue(keepAnswers, in.ids, in.replay, in.answers)
		b.Queue(freeClaims, in.ids, in.replay)
	}
	b.Queue(countSettled, in.ids, in.used)
	freed := make(map[uuid.UUID]bool, len(list))
	b.Queue(deleteReservations, in.ids).Query(func(rows pgx.Rows) error {
		clear(freed)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		for _, id := range ids {
			freed[id] = true
		}
		return err
	})
	if err := db.send(ctx, b); err != nil {
		return nil, fmt.Errorf("settle: %w", err)
	}
	settled := make([]bool, len(list))
	for i, s := range list {
		settled[i] = freed[s.ID]
		delete(freed, s.ID) // named twice, it is settled once
	}
	return settled, nil
}

// bounds are the least and the greatest of ids.
func bounds(ids []uuid.UUID) (first, last uuid.UUID) {
	order := func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
	if len(ids) == 0 {
		return first, last
	}
	return slices.MinFunc(ids, order), slices.MaxFunc(ids, order)
}

// settlements are a list's values as arrays, each request once.
type settlements struct {
	ids                                          []uuid.UUID
	at                                           []time.Time
	requests, keys, kinds, models, states, codes []string
	outputs, details                             []json.RawMessage
	salts, hashes, answers                       [][]byte
	prompt, completion, used                     []int64
	inputPrices, outputPrices, costs             []int64
	replay                                       []bool
	keyed                                        bool // one of them claimed an Idempotency-Key
}

func settlementsOf(list []Settlement) (c settlements) {
	for i, s := range list {
		if slices.ContainsFunc(list[:i], func(before Settlement) bool { return before.ID == s.ID }) {
			continue
		}
		detail := s.Detail
		if detail == nil {
			detail = json.RawMessage(`{}`)
		}
		c.ids, c.at, c.requests = append(c.ids, s.ID), append(c.at, s.At), append(c.requests, s.RequestID)
		c.keys, c.kinds, c.models = append(c.keys, s.APIKey), append(c.kinds, s.Kind), append(c.models, s.Model)
		c.states, c.codes, c.outputs = append(c.states, s.State), append(c.codes, s.ErrorCode), append(c.outputs, s.Output)
		c.salts, c.hashes, c.details = append(c.salts, s.Salt), append(c.hashes, s.PayloadHash), append(c.details, detail)
		c.prompt, c.completion = append(c.prompt, max(s.PromptTokens, 0)), append(c.completion, max(s.CompletionTokens, 0))
		c.used, c.costs = append(c.used, max(s.Used, 0)), append(c.costs, s.Cost)
		c.inputPrices, c.outputPrices = append(c.inputPrices, s.InputPrice), append(c.outputPrices, s.OutputPrice)
		c.replay, c.answers = append(c.replay, s.Replay), append(c.answers, s.Answer)
		c.keyed = c.keyed || s.IdempotencyKey != ""
	}
	return c
}
