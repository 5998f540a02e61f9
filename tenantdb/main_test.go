package tenantdb_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb"
)

func TestMain(m *testing.M) { pgtest.MainLeak(m) }

// bench is a tenant's database with a connection as its login role, and one as
// its owner.
type bench struct {
	testing.TB
	at    pgtest.TenantDB
	id    catalog.TenantID
	conn  *pgx.Conn
	owner *pgx.Conn
	db    *tenantdb.DB // at epoch 10
}

func setup(t testing.TB) *bench {
	t.Helper()
	b := &bench{TB: t, at: pgtest.Tenant(t)}
	id, err := catalog.ParseTenantID(b.at.ID.String())
	b.ok(err)
	b.id, b.conn, b.owner = id, b.connect(b.at.TenantURL), b.connect(b.at.OwnerURL)
	b.db = tenantdb.On(b.conn, 10)
	return b
}

func (b *bench) connect(url string) *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), url)
	b.ok(err)
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) fence(n int64) {
	b.Helper()
	_, err := b.owner.Exec(b.Context(), "update freehold.tenant_identity set fence = $1", n)
	b.ok(err)
}

// admitted is a prediction in progress.
func (b *bench) admitted() tenantdb.Prediction {
	b.Helper()
	p := tenantdb.Prediction{
		ID: uuid.Must(uuid.NewV7()), RequestID: "req_1", APIKey: "key_1", Kind: "chat", Model: "m",
		Input: []byte(`{"prompt": "hi"}`), EndUser: "ann", Streamed: true,
	}
	b.ok(b.db.Admit(b.Context(), p))
	return p
}
