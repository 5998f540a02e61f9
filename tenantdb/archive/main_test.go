package archive_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"freehold/catalog"
	"freehold/migrations/localpg"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/archive"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
)

func TestMain(m *testing.M) {
	// The store's HTTP server keeps a clock for the life of the process, and a sweeper
	// that sleeps on for up to 10 s after its end.
	pgtest.MainLeak(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// home is a tenant's database and prefix.
type home struct {
	testing.TB
	at      pgtest.TenantDB
	conn    *pgx.Conn // as the owner
	objects *blob.Objects
}

func open(t testing.TB) *home {
	t.Helper()
	h := &home{TB: t, at: pgtest.Tenant(t)}
	var err error
	h.conn, err = pgx.Connect(t.Context(), h.at.OwnerURL)
	h.ok(err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = h.conn.Close(ctx)
	})
	store, err := blob.Open(t.Context(), blob.Config{Endpoint: blobtest.Shared(t), Bucket: "archives"}, true)
	h.ok(err)
	id, err := catalog.ParseTenantID(h.at.ID.String())
	h.ok(err)
	h.objects = store.Tenant(id)
	return h
}

func (h *home) ok(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *home) exec(sql string, args ...any) {
	h.Helper()
	_, err := h.conn.Exec(h.Context(), sql, args...)
	h.ok(err)
}

// source is what an archive of it is made from.
func (h *home) source() archive.Source {
	return archive.Source{
		Meta: archive.Meta{Tenant: h.at.ID.String(), Slug: "acme", Schema: 5, Product: 1}, Conn: h.conn, Objects: h.objects,
		Definitions: func(ctx context.Context, w io.Writer, snapshot, section string) error {
			program, err := localpg.FindClient("pg_dump", 0)
			if err != nil {
				return err
			}
			cmd := exec.CommandContext(ctx, program.Path, "--schema-only", "--section="+section, "--exclude-schema=freehold",
				"--no-owner", "--no-privileges", "--snapshot="+snapshot)
			at := h.conn.Config()
			cmd.Env = append(os.Environ(), "PGHOST="+at.Host, "PGPORT="+strconv.Itoa(int(at.Port)), "PGUSER="+at.User,
				"PGPASSWORD="+at.Password, "PGDATABASE="+at.Database, "PGOPTIONS=-c role=freehold_owner")
			cmd.Stdout = w
			return cmd.Run()
		},
	}
}

// export is an archive of it, and what it says of itself.
func (h *home) export() ([]byte, archive.Manifest) {
	h.Helper()
	var out bytes.Buffer
	total, err := archive.Write(h.Context(), &out, h.source())
	h.ok(err)
	m, err := archive.Read(h.Context(), bytes.NewReader(out.Bytes()), nil)
	h.ok(err)
	rows := int64(0)
	for _, t := range m.Tables {
		rows += t.Rows
	}
	if total.Rows != rows || total.Tables != len(m.Tables) {
		h.Errorf("written %+v, in it %d rows of %d tables", total, rows, len(m.Tables))
	}
	return out.Bytes(), m
}

// file stores a file and writes its row.
func (h *home) file(name string, body []byte) (id uuid.UUID) {
	h.Helper()
	id = uuid.Must(uuid.NewV7())
	sum := sha256.Sum256(body)
	h.ok(h.objects.Put(h.Context(), "files/"+id.String(), bytes.NewReader(body)))
	h.exec(`insert into freehold.files (id, state, purpose, name, bytes, sha256, api_key) values ($1, 'processed', 'user_data', $2, $3, $4, 'k')`,
		id, name, len(body), sum[:])
	return id
}

// sums is every table's rows and the sum of their texts, but for what every database
// has of its own.
func (h *home) sums() map[string]string {
	h.Helper()
	h.exec(`set timezone = 'UTC'`)
	h.exec(`set datestyle = 'ISO, YMD'`)
	rows, err := h.conn.Query(h.Context(), `
select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
   and (n.nspname <> 'freehold' or c.relname not in ('tenant_identity', 'schema_version', 'tenant_counters', 'idempotency_keys'))`)
	h.ok(err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	h.ok(err)
	sums := map[string]string{}
	for _, name := range names {
		var n int64
		var sum string
		h.ok(h.conn.QueryRow(h.Context(), `select count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text from `+name+` t`).Scan(&n, &sum))
		sums[name] = strconv.FormatInt(n, 10) + " " + sum
	}
	return sums
}

// content reads an object's sum.
func (h *home) content(key string) string {
	h.Helper()
	r, _, err := h.objects.Get(h.Context(), key)
	h.ok(err)
	defer r.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, r)
	h.ok(err)
	return hex.EncodeToString(sum.Sum(nil))
}

// unpack is the texts of an archive's entries.
func unpack(t testing.TB, packed []byte) map[string]string {
	t.Helper()
	texts := map[string]string{}
	_, err := archive.Read(t.Context(), bytes.NewReader(packed), func(_ context.Context, e archive.Entry, r io.Reader) error {
		text, err := io.ReadAll(r)
		if _, twice := texts[e.Path]; twice {
			err = fmt.Errorf("%s is there twice", e.Path)
		}
		texts[e.Path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}
