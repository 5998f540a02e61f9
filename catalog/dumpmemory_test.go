package catalog_test

import (
	"bytes"
	"io"
	"runtime"
	"testing"

	"freehold/migrations"
	"freehold/migrations/pgtest"
)

// Memory doesn't grow with the catalog. It isn't parallel: it measures the process.
func TestDump_memory(t *testing.T) { //nolint:paralleltest // see above
	tenants := 5_000
	if pgtest.Long() {
		tenants = 100_000
	}
	b := setup(t)
	server := b.server("pg-1")
	conn := b.as(migrations.RoleCatalog)
	b.exec(conn, `
insert into tenants (id, slug, name, state, server_id, database, role, secret, secret_key_id, epoch, labels)
select gen_random_uuid(), 'many-' || n, 'Tenant number ' || n, 'active', $1, 'd' || n, 'd' || n, $2, 1, n, '{"tier": "gold"}'
  from generate_series(1, $3::int) n`, server.ID, make([]byte, 72), tenants)
	b.exec(conn, `insert into tenant_config (tenant) select id from tenants`)
	m := &meter{}
	m.start()
	s, err := b.cat.Snapshot(t.Context())
	b.ok(err)
	defer s.Close(t.Context())
	var out bytes.Buffer
	b.ok(s.Dump(t.Context(), io.MultiWriter(&out, m)))
	to := b.empty()
	_, err = to.cat.Load(t.Context(), io.TeeReader(&out, m), "d")
	b.ok(err)
	if n := to.number(to.as(migrations.RoleCatalog), `select count(*) from tenants`); n != int64(tenants) {
		t.Errorf("%d of %d tenants", n, tenants)
	}
	// The encoder's and the decoder's windows are 8 MB each; the dump itself lies in out.
	if grown := m.grown(); grown > 64<<20 {
		t.Errorf("%d MB for %d tenants", grown>>20, tenants)
	}
}

// meter looks at the heap at each piece that passes.
type meter struct{ before, most uint64 }

func (m *meter) start() {
	runtime.GC()
	m.before = heap()
}

func (m *meter) Write(p []byte) (int, error) {
	m.most = max(m.most, heap())
	return len(p), nil
}

func (m *meter) grown() int64 { return int64(m.most) - int64(m.before) }

func heap() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
