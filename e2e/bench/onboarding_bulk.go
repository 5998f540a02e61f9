package main

import (
	"context"
	"fmt"
	"time"

	"freehold/tenantdb/fleet"
)

// parts is how many times a row of tenants ends with a checkpoint: after every
// hundred of a thousand.
const parts = 10

// bulk makes tenants in a row, one at a time, none of which finds a ready
// database: how quick are the last, when the server has all the others?
func (h *hatchery) bulk(ctx context.Context, b *bench) error {
	store, err := h.store(ctx)
	if err != nil {
		return err
	}
	g, err := openGround(ctx, b)
	if err != nil {
		return err
	}
	defer g.close()
	house, err := g.openHouse(ctx, "freehold_bulk", fleet.Config{Blob: store})
	if err != nil {
		return err
	}
	// The very first find everything cold, which would flatter the last.
	for range 5 {
		if err := house.create(ctx); err != nil {
			return err
		}
	}
	each := max(1, inARow*b.opt.tenants/parts)
	var took []time.Duration
	for part := range parts {
		if _, err := g.super.Exec(ctx, `checkpoint`); err != nil {
			return err
		}
		began := time.Now()
		for range each {
			if err := house.create(ctx); err != nil {
				return err
			}
		}
		took = append(took, time.Since(began))
		b.progress("bulk, %d tenants: %s/s", (part+1)*each, figure(rate(each, took[part])))
	}
	first, last, all := rates(each, took)
	return b.emit("bulk_decay", "ratio", atLeast(0.7), []float64{last / first},
		fmt.Sprintf("tenants a second: %s, first %d %s, last %d %s", figure(all), each, figure(first), each, figure(last)))
}

func rate(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }

// rates are of the first part, of the last and of all; each part had as many.
func rates(each int, took []time.Duration) (first, last, all float64) {
	var whole time.Duration
	for _, d := range took {
		whole += d
	}
	return rate(each, took[0]), rate(each, took[len(took)-1]), rate(each*len(took), whole)
}
