package main

import (
	"context"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"

	"freehold/tenantdb"
)

// work is what a request does with its tenant's database. Every side runs the
// very same function, so that what differs is how it came by the connection.
type work struct {
	name string
	run  func(ctx context.Context, db *tenantdb.DB) error
}

// works are the two workloads; of their ratios the worse one counts.
var works = []work{{"select 1", selectOne}, {"select and insert", selectInsert}}

// selectOne is the least that a request can ask of a tenantdb.DB.
func selectOne(ctx context.Context, db *tenantdb.DB) error {
	b := new(pgx.Batch)
	b.Queue("select 1")
	return db.Batch(ctx, b)
}

const (
	selectItem = `select note from bench.items where k = $1 limit 1`
	insertItem = `insert into bench.items (k, note) values ($1, $2)`
)

// selectInsert reads a row by its index and writes one.
func selectInsert(ctx context.Context, db *tenantdb.DB) error {
	k := 1 + rand.IntN(itemKeys)
	var note string
	b := new(pgx.Batch)
	b.Queue(selectItem, k).QueryRow(func(row pgx.Row) error { return row.Scan(&note) })
	b.Queue(insertItem, k, "of the benchmark")
	return db.Batch(ctx, b)
}

// hold keeps its connection for 20 ms and leaves the processor alone.
func hold(ctx context.Context, db *tenantdb.DB) error {
	b := new(pgx.Batch)
	b.Queue("select pg_sleep(0.02)")
	return db.Batch(ctx, b)
}
