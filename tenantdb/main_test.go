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

// plenty are limits that nobody meets.
var plenty = tenantdb.Limits{Tokens: 1_000_000_000, Slots: 1000000}

// admission is a request of a moment ago that asks for up to 100 tokens.
func admission() tenantdb.Admission {
	return tenantdb.Admission{
		ID: uuid.Must(uuid.NewV7()), CreatedAt: time.Now(), RequestID: "req_1", Kind: "chat", Model: "m", EndUser: "ann",
		Streamed: true, Input: []byte(`{"prompt": "hi"}`), Least: 10, Most: 100, Audit: true, Claim: time.Hour,
	}
}

// admit asks for one request of key_1.
func (b *bench) admit(db *tenantdb.DB, a tenantdb.Admission) error {
	grants, err := db.AdmitAll(b.Context(), node, "key_1", plenty, []tenantdb.Admission{a})
	if err == nil && grants[0].Outcome != tenantdb.Granted {
		b.Errorf("not granted: %+v", grants[0])
	}
	return err
}

var node = uuid.Must(uuid.NewV7())

// admitted is a request at work.
func (b *bench) admitted() tenantdb.Admission {
	b.Helper()
	a := admission()
	b.ok(b.admit(b.db, a))
	return a
}

// settle ends one, and reports whether it did.
func (b *bench) settle(s tenantdb.Settlement) bool {
	b.Helper()
	settled, err := b.db.SettleAll(b.Context(), []tenantdb.Settlement{s})
	b.ok(err)
	return settled[0]
}
