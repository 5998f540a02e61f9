package catalog_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
)

// What each process serves is known: of nodes, of workers, of those that don't say,
// and no longer of those that are dead.
func TestLiveRanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.admin()
	b.cache(b.cat, catalog.CacheConfig{NodeName: "node", SchemaMin: 4, SchemaMax: 6})
	b.exec(admin, `insert into nodes (id, name, version, seen) values (gen_random_uuid(), 'older', 'v0', 0)`)
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel()
	working.Go(func() { b.cat.Attend(ctx, "worker", "v", 4, 5) })
	ranges := func(list []catalog.Node, err error) (said map[string][2]int64) {
		b.ok(err)
		said = map[string][2]int64{}
		for _, n := range list {
			said[n.Name] = [2]int64{n.SchemaMin, n.SchemaMax}
		}
		return said
	}
	b.within(5*time.Second, "all are heard of", func() bool { return len(ranges(b.cat.LiveRanges(t.Context(), time.Minute))) == 3 })
	said := ranges(b.cat.LiveRanges(t.Context(), time.Minute))
	if said["node"] != [2]int64{4, 6} || said["worker"] != [2]int64{4, 5} || said["older"] != [2]int64{} {
		t.Errorf("live: %v", said)
	}
	listed, err := b.cat.Nodes(t.Context())
	b.ok(err)
	if i := slices.IndexFunc(listed, func(n catalog.Node) bool { return n.Name == "node" }); i < 0 || len(listed) != 2 ||
		listed[i].SchemaMin != 4 || listed[i].SchemaMax != 6 {
		t.Errorf("listed: %+v", listed)
	}
	// While Postgres itself is younger than that, nobody counts as dead.
	b.exec(admin, `update nodes set heartbeat_at = now() - interval '2 hours' where name = 'older'`)
	if said = ranges(b.cat.LiveRanges(t.Context(), 200*365*24*time.Hour)); len(said) != 3 {
		t.Errorf("Postgres has just begun: %v", said)
	}
	b.within(10*time.Second, "Postgres is old enough", func() bool {
		return b.number(admin, `select extract(epoch from now() - pg_postmaster_start_time())::bigint`) > 5
	})
	if said = ranges(b.cat.LiveRanges(t.Context(), 5*time.Second)); len(said) != 2 || said["older"] != [2]int64{} || said["node"] == [2]int64{} {
		t.Errorf("one is dead: %v", said)
	}
}
