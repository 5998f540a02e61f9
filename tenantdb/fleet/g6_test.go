package fleet_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// halfMade is where there is a database that nobody is let into yet.
const halfMade = "database/created"

// movePoints are the points of a move at which a worker is killed: in the short form
// the one in the middle of the pause and the one behind the switch.
func movePoints(way string) []string {
	if !pgtest.Long() {
		return map[string][]string{
			fleet.ByReplication: {"move/cutover:same"}, fleet.ByCopy: {"move/cutover:switched"},
		}[way]
	}
	if way == fleet.ByCopy { // the steps that both have are the other's
		return []string{halfMade, "move/cutover:copied", "move/cutover:shut", "move/cutover:switched"}
	}
	points := []string{halfMade}
	for _, p := range append(fleet.Points(catalog.KindMove), fleet.MovePoints()...) {
		// What a step has made is there and written down nowhere: a step that is recorded,
		// or the next one's beginning, is less than that.
		if !strings.HasSuffix(p, ":begun") && !strings.HasSuffix(p, ":recorded") && p != "move/cutover:copied" {
			points = append(points, p)
		}
	}
	return points
}

// Its worker killed with -9 at every step, a tenant that is written to has moved in
// the end, lives in exactly one place, and has every row that somebody was told of.
func TestG6_MoveSurvivesKill(t *testing.T) {
	t.Parallel()
	b := two(t)
	o := b.orders(blob.Config{})
	// A process that is to die there must not lose its operation before.
	o.DeadAfter, o.Heartbeat = nodeDead, 5*beat
	type one struct {
		t catalog.Tenant
		w *writer
	}
	var list []one
	var points []string
	for _, way := range []string{fleet.ByReplication, fleet.ByCopy} {
		for _, point := range movePoints(way) {
			points = append(points, way+" "+point)
		}
	}
	for i := range points {
		made := b.create(fmt.Sprintf("t-%02d", i))
		b.furnish(made)
		list = append(list, one{t: made})
	}
	b.openSecond()
	// What is left lying on the servers takes room there: a few at a time.
	for some := range slices.Chunk(points, 8) {
		atOnce(some, func(point string) {
			i := slices.Index(points, point)
			list[i].w = b.writes(list[i].t.ID)
			o := o
			o.Move, o.To = list[i].t.Slug, "pg-2"
			o.Way, o.DieAt, _ = strings.Cut(point, " ")
			b.dies(o)
		})
		if t.Failed() {
			return
		}
		stop := b.work(b.newFleet(fleet.Config{Heartbeat: beat, DeadAfter: nodeDead}))
		b.settled(2 * time.Minute)
		stop()
		for _, point := range some {
			list[slices.Index(points, point)].w.stop()
		}
	}
	for i, point := range points {
		ops, err := b.cat.Operations(t.Context(), catalog.OperationFilter{Tenant: list[i].t.Slug, Kind: catalog.KindMove})
		b.ok(err)
		if len(ops) != 1 || ops[0].State != catalog.OperationDone {
			t.Errorf("%s: %+v", point, ops)
			continue
		}
		least, most := list[i].w.orders()
		b.moved(list[i].t.ID, least, most)
		b.unlinked(ops...)
	}
	b.nothingLeft(nil)
}

// Cancelled at a step before the switch, it is as if it had never been begun.
func TestG6_ACancelledMoveGoesBack(t *testing.T) {
	t.Parallel()
	b := two(t)
	o := b.orders(blob.Config{})
	o.DeadAfter, o.Heartbeat = nodeDead, 5*beat
	points := []string{"move/cutover:shut"}
	if pgtest.Long() {
		points = []string{halfMade, "move/home:made", "move/replicate:slot", "move/sync:begun", "move/cutover:paused", "move/cutover:shut"}
	}
	var list []catalog.Tenant
	for i := range points {
		made := b.create(fmt.Sprintf("t-%02d", i))
		b.furnish(made)
		list = append(list, made)
	}
	b.openSecond()
	f := b.newFleet(fleet.Config{Heartbeat: beat, DeadAfter: nodeDead})
	atOnce(points, func(point string) {
		made := list[slices.Index(points, point)]
		w := b.writes(made.ID)
		o := o
		o.Move, o.To, o.Way, o.DieAt = made.Slug, "pg-2", fleet.ByReplication, point
		b.dies(o)
		ops, err := b.cat.Operations(t.Context(), catalog.OperationFilter{Tenant: made.Slug, Kind: catalog.KindMove})
		if err != nil || len(ops) != 1 {
			t.Errorf("%s: %+v %v", point, ops, err)
			return
		}
		ended, err := f.CancelOperation(t.Context(), ops[0].ID, "test")
		if err != nil || ended.State != catalog.OperationCancelled {
			t.Errorf("%s: %+v %v", point, ended, err)
			return
		}
		before := w.done.Load()
		b.until("it is written to again", func() bool { return w.done.Load() > before })
		w.stop()
		if now, err := b.cat.Tenant(t.Context(), made.ID); err != nil || now.State != catalog.Active || now.Server != "pg-1" {
			t.Errorf("%s: %+v %v", point, now, err)
		}
		least, most := w.orders()
		if n := one[int64](b, b.at("pg-1", made.Database), "select count(*) from shop.orders"); n < least || n > most {
			t.Errorf("%s: %d orders, want %d to %d", point, n, least, most)
		}
		b.apart(made, "pg-2")
		b.unlinked(ops...)
	})
	b.nothingLeft(nil)
}
