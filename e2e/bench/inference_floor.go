package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

// looker asks for one row.
type looker func(sql string, args ...any) pgx.Row

// asOwner lends a connection that may read all of a tenant's database.
func (e *estate) asOwner(ctx context.Context, cfg *pgx.ConnConfig, fn func(looker) error) error {
	cfg.RuntimeParams["role"] = "freehold_owner"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return fn(func(sql string, args ...any) pgx.Row { return conn.QueryRow(ctx, sql, args...) })
}

// floor writes, for each request, the rows that Freehold writes, in two pipelined
// round trips on a warm connection: the least that can be done. It decides nothing
// and checks nothing. Close it.
type floor struct {
	pools []*pgxpool.Pool
	keys  []string
	rows  floorRows
}

// floorRows are the values that all of its rows have, as large as Freehold's.
type floorRows struct {
	input, output, detail json.RawMessage
	salt, hash            []byte
}

// floorConns are open for each tenant: more than are ever used at a time.
const floorConns = 6

func (e *estate) openFloor(ctx context.Context, d *domain, n int) (*floor, error) {
	list, err := d.customers(ctx, "floor", n)
	if err != nil {
		return nil, err
	}
	answer := strings.Join(strings.Fields(askedPrompt)[:mockWords], " ")
	f := &floor{rows: floorRows{
		input:  askedBody(askedPrompt, false),
		output: marshalled(map[string]any{"choices": []any{map[string]any{"index": 0, "message": map[string]string{"role": "assistant", "content": answer}}}}),
		detail: marshalled(map[string]any{"kind": "chat", "model": benchModel, "state": "succeeded", "prompt_tokens": 70, "completion_tokens": 40}),
		salt:   make([]byte, 16), hash: make([]byte, 32),
	}}
	for _, c := range list {
		route, err := d.cat.Route(ctx, c.ID)
		if err != nil {
			f.close()
			return nil, err
		}
		cfg, err := poolConfig(route.Config.Copy(), floorConns)
		if err != nil {
			f.close()
			return nil, err
		}
		cfg.ConnConfig.RuntimeParams["application_name"] = peerName + "floor"
		cfg.MaxConnIdleTime = time.Hour
		pool, err := pgxpool.NewWithConfig(ctx, cfg)
		if err != nil {
			f.close()
			return nil, err
		}
		key, _, _ := strings.Cut(strings.TrimPrefix(c.token, "fh_"), "_")
		f.pools, f.keys = append(f.pools, pool), append(f.keys, key)
	}
	if err := f.warm(ctx); err != nil {
		f.close()
		return nil, fmt.Errorf("open the floor: %w", err)
	}
	return f, nil
}

func marshalled(v any) json.RawMessage {
	text, _ := json.Marshal(v)
	return text
}

const floorCounters = `
insert into freehold.tenant_counters (api_key) values (''), ($1) on conflict do nothing`

// warm opens every connection, and has each prepare its statements.
func (f *floor) warm(ctx context.Context) error {
	for i, pool := range f.pools {
		if _, err := pool.Exec(ctx, floorCounters, f.keys[i]); err != nil {
			return err
		}
		var all errgroup.Group
		var held []*pgxpool.Conn
		for range floorConns {
			conn, err := pool.Acquire(ctx)
			if err != nil {
				return err
			}
			held = append(held, conn)
			all.Go(func() error { return f.writeOn(ctx, conn, i) })
		}
		err := all.Wait()
		for _, conn := range held {
			conn.Release()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *floor) close() {
	for _, pool := range f.pools {
		pool.Close()
	}
}

// write is an op: one request's rows.
func (f *floor) write(ctx context.Context, _, i int) error {
	tenant := i % len(f.pools)
	conn, err := f.pools[tenant].Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return f.writeOn(ctx, conn, tenant)
}

const (
	floorPredict = `
insert into freehold.predictions (id, request_id, api_key, kind, model, streamed, state, end_user, input, created_at)
values ($1, $2, $3, 'chat', $4, false, 'in_progress', '', $5, $6)`
	floorReserve = `
insert into freehold.reservations (id, node, month, tokens, api_key, audit)
values ($1, $1, date_trunc('month', now())::date, 1000, $2, true)`
	floorCount = `
update freehold.tenant_counters set reserved = reserved + 1000, in_flight = in_flight + 1 where api_key in ('', $1)`
	floorEnd = `
update freehold.predictions set state = 'succeeded', output = $2, salt = $3, payload_hash = $4, prompt_tokens = 70,
       completion_tokens = 40, settled_at = now() where id = $1`
	floorBill = `
insert into freehold.usage_ledger (id, request_id, api_key, kind, model, state, prompt_tokens, completion_tokens,
       input_price, output_price, cost, at)
values ($1, $2, $3, 'chat', $4, 'succeeded', 70, 40, 500000000, 1500000000, 95000, $5)`
	floorAudit = `
insert into freehold.audit_log (id, at, actor, action, subject, request_id, detail, payload_hash)
values ($1::uuid, now(), 'key:' || $2::text, 'prediction', 'pred_' || ($1::uuid)::text, $3, $4, $5)`
	floorFree    = `delete from freehold.reservations where id = $1`
	floorUncount = `
update freehold.tenant_counters set reserved = reserved - 1000, used = used + 110, in_flight = in_flight - 1
 where api_key in ('', $1)`
)

func (f *floor) writeOn(ctx context.Context, conn *pgxpool.Conn, tenant int) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	now, request, key, r := time.Now(), "req_"+id.String(), f.keys[tenant], f.rows
	admit := new(pgx.Batch)
	admit.Queue(floorPredict, id, request, key, benchModel, r.input, now)
	admit.Queue(floorReserve, id, key)
	admit.Queue(floorCount, key)
	if err := conn.SendBatch(ctx, admit).Close(); err != nil {
		return err
	}
	settle := new(pgx.Batch)
	settle.Queue(floorEnd, id, r.output, r.salt, r.hash)
	settle.Queue(floorBill, id, request, key, benchModel, now)
	settle.Queue(floorAudit, id, key, request, r.detail, r.hash)
	settle.Queue(floorFree, id)
	settle.Queue(floorUncount, key)
	return conn.SendBatch(ctx, settle).Close()
}
