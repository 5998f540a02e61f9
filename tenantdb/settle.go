package tenantdb

import (
	"context"
	"encoding/json"
	"fmt"
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

	// Replay says that the claimed Idempotency-Key is kept, with Answer (sealed; nil:
	// too large). Else the key is free again: the same request is a new attempt.
	Replay bool   `json:"replay,omitempty"`
	Answer []byte `json:"answer,omitempty"`
}

// Rows of counters that a settlement will change are found by its reservations, so
// that they are locked in the same order as by an admission.
const lockSettled = `
select c.api_key from freehold.tenant_counters c
 where c.api_key = ''
    or c.api_key in (select r.api_key from freehold.reservations r where r.id = any($1))
 order by c.api_key for no key update`

// The ledger and the counters take what was used, also when that is more than was
// granted: the engine's count is the truth.
const settleAll = `
with told as materialized (
    select t.id, t.at, t.request_id, t.api_key, t.kind, t.model, t.state, t.error_code, t.output, t.salt,
           t.payload_hash, t.prompt_tokens, t.completion_tokens, t.input_price, t.output_price, t.cost, t.detail,
           t.replay, t.answer, t.used
      from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                  $8::text[], $9::json[], $10::bytea[], $11::bytea[], $12::bigint[], $13::bigint[], $14::bigint[],
                  $15::bigint[], $16::bigint[], $17::json[], $18::boolean[], $19::bytea[],
                  $20::bigint[])
        as t (id, at, request_id, api_key, kind, model, state, error_code, output, salt, payload_hash,
              prompt_tokens, completion_tokens, input_price, output_price, cost, detail, replay, answer, used)
), freed as (
    delete from freehold.reservations r where r.id = any($1)
 returning r.id, r.month, r.tokens, r.api_key, r.slot, r.audit, r.idempotency_key
), ended as (
    update freehold.predictions p
       set state = t.state, error_code = t.error_code, output = t.output, salt = t.salt,
           payload_hash = t.payload_hash, prompt_tokens = t.prompt_tokens,
           completion_tokens = t.completion_tokens, settled_at = now()
      from told t, freed f
     where p.id = any($1) and p.id = t.id and f.id = t.id and p.state = 'in_progress'
), billed as (
    insert into freehold.usage_ledger (id, request_id, api_key, kind, model, state, prompt_tokens,
           completion_tokens, input_price, output_price, cost, at)
    select t.id, t.request_id, t.api_key, t.kind, t.model, t.state, t.prompt_tokens, t.completion_tokens,
           t.input_price, t.output_price, t.cost, t.at
      from told t join freed f on f.id = t.id
), audited as (
    insert into freehold.audit_log (id, at, actor, action, subject, request_id, detail, payload_hash)
    select t.id, now(), 'key:' || t.api_key, 'prediction', 'pred_' || t.id::text, t.request_id, t.detail, t.payload_hash
      from told t join freed f on f.id = t.id where f.audit
), kept as (
    update freehold.idempotency_keys i set done = true, answer = t.answer
      from told t join freed f on f.id = t.id
     where t.replay and f.idempotency_key <> ''
       and i.api_key = f.api_key and i.key = f.idempotency_key and i.prediction = t.id
), forgotten as (
    delete from freehold.idempotency_keys i
     using told t join freed f on f.id = t.id
     where not t.replay and f.idempotency_key <> ''
       and i.api_key = f.api_key and i.key = f.idempotency_key and i.prediction = t.id
), back as (
    select k.api_key, f.month, sum(f.tokens)::bigint as tokens,
           sum(t.used)::bigint as used, count(*) filter (where f.slot)::int as slots
      from freed f join told t on t.id = f.id
     cross join lateral (values (''), (f.api_key)) as k (api_key)
     group by k.api_key, f.month
), counted as (
    update freehold.tenant_counters c
       set reserved = c.reserved - coalesce(b.tokens, 0), used = c.used + coalesce(b.used, 0),
           in_flight = c.in_flight - b.slots
      from (select k.api_key, sum(k.slots)::int as slots,
                   sum(k.tokens) filter (where k.month = n.month)::bigint as tokens,
                   sum(k.used) filter (where k.month = n.month)::bigint as used
              from back k join freehold.tenant_counters n on n.api_key = k.api_key
             group by k.api_key) as b
     where c.api_key = b.api_key
)
select t.id in (select f.id from freed f) as settled from told t`

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
	var settled []bool
	ids := make([]uuid.UUID, len(list))
	for i, s := range list {
		ids[i] = s.ID
	}
	b := new(pgx.Batch)
	b.Queue(lockSettled, ids)
	b.Queue(settleAll, settledColumns(ids, list)...).Query(func(rows pgx.Rows) (err error) {
		settled, err = pgx.CollectRows(rows, pgx.RowTo[bool])
		return err
	})
	if err := db.send(ctx, b); err != nil {
		return nil, fmt.Errorf("settle: %w", err)
	}
	return settled, nil
}

func settledColumns(ids []uuid.UUID, list []Settlement) []any {
	n := len(list)
	var (
		at                                       = make([]time.Time, n)
		requests, keys, kinds, models            = make([]string, n), make([]string, n), make([]string, n), make([]string, n)
		states, codes                            = make([]string, n), make([]string, n)
		outputs, details                         = make([]json.RawMessage, n), make([]json.RawMessage, n)
		salts, hashes, answers                   = make([][]byte, n), make([][]byte, n), make([][]byte, n)
		prompt, completion, input, output, costs = make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
		replay                                   = make([]bool, n)
		used                                     = make([]int64, n)
	)
	for i, s := range list {
		at[i], requests[i], keys[i], kinds[i], models[i] = s.At, s.RequestID, s.APIKey, s.Kind, s.Model
		states[i], codes[i], outputs[i], salts[i], hashes[i] = s.State, s.ErrorCode, s.Output, s.Salt, s.PayloadHash
		prompt[i], completion[i] = max(s.PromptTokens, 0), max(s.CompletionTokens, 0)
		input[i], output[i], costs[i] = s.InputPrice, s.OutputPrice, s.Cost
		details[i], replay[i], answers[i], used[i] = s.Detail, s.Replay, s.Answer, max(s.Used, 0)
		if details[i] == nil {
			details[i] = json.RawMessage(`{}`)
		}
	}
	return []any{ids, at, requests, keys, kinds, models, states, codes, outputs, salts, hashes, prompt, completion,
		input, output, costs, details, replay, answers, used}
}
