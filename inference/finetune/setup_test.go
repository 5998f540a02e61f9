package finetune_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"freehold/catalog"
	"freehold/catalog/catalogtest"
	"freehold/inference/finetune"
	"freehold/inference/finetune/builtin"
	"freehold/inference/finetune/child"
	"freehold/migrations/pgtest"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
)

// The base model of the tests, and what trains it.
const (
	baseModel = "freehold-answer-1"
	trainer   = "builtin"
)

// childEnv, when set, makes a worker of this test binary: a process of its own that
// can be killed.
const childEnv = "FREEHOLD_FINETUNE_CHILD"

func TestMain(m *testing.M) {
	child.Guard()
	builtin.Main()
	if text := os.Getenv(childEnv); text != "" {
		if err := obey(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The object store's.
	pgtest.MainLeak(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// order is what such a process is told: what it needs to work for one tenant.
type order struct {
	CatalogURL string
	Keyset     string // file
	Blob       blob.Config
	Tenant     string
	OwnerURL   string
	Dir        string
	Worker     string
	Slots      int

	DieAt string // the point at which it is killed with SIGKILL
	Nth   int    // the how manieth time it comes there; 0: the first

	trainer finetune.Trainer // of a worker of this process; nil: the built-in one
	away    func() bool      // the tenant's database, for such a worker; nil: never
}

// childLife bounds a process that its test has forgotten.
const childLife = 2 * time.Minute

// obey is the life of such a process.
func obey(text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), childLife)
	defer cancel()
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	keys, err := catalog.ReadKeyset(o.Keyset)
	if err != nil {
		return err
	}
	cat, err := catalog.Open(ctx, catalog.Config{URL: o.CatalogURL, Keyset: keys})
	if err != nil {
		return err
	}
	defer cat.Close()
	store, err := blob.Open(ctx, o.Blob, false)
	if err != nil {
		return err
	}
	w, err := newWorker(o, cat, store, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), os.Args[0])
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// inTenant is InTenant, unless the database is away.
func (o order) inTenant(cat *catalog.Catalog) func(context.Context, catalog.TenantID, func(context.Context, catalog.Tenant, *tenantdb.DB) error) error {
	within := inTenant(cat, o.OwnerURL)
	return func(ctx context.Context, id catalog.TenantID, fn func(context.Context, catalog.Tenant, *tenantdb.DB) error) error {
		if o.away != nil && o.away() {
			return tenantdb.ErrUnavailable
		}
		return within(ctx, id, fn)
	}
}

// newWorker makes a worker for the order's tenant. Its leases are short: nobody
// waits long for what a killed one had.
func newWorker(o order, cat *catalog.Catalog, store *blob.Store, log *slog.Logger, self string) (*finetune.Worker, error) {
	var mu sync.Mutex
	left := max(o.Nth, 1)
	return finetune.NewWorker(finetune.WorkerConfig{
		Take: cat.TakeWork, Keep: cat.KeepWork, Release: cat.ReleaseWork, End: cat.EndWork,
		InTenant: o.inTenant(cat), Policy: cat.TenantConfig, Objects: store.Tenant,
		Model: func(context.Context, string) (catalog.Model, error) {
			return catalog.Model{Name: baseModel, Engine: "builtin", Upstream: baseModel, Kind: "chat", Trainer: trainer}, nil
		},
		Trainers: func() []string { return []string{trainer} },
		Trainer: func(context.Context, string, catalog.Model) (finetune.Trainer, error) {
			if o.trainer != nil {
				return o.trainer, nil
			}
			return builtin.New(builtin.Config{Path: self, Cores: 1, Eager: true}), nil
		},
		Worker: o.Worker, Dir: o.Dir, Slots: o.Slots, Logger: log,
		Poll: 20 * time.Millisecond, Lease: 1200 * time.Millisecond, Retry: 50 * time.Millisecond, Tries: 20,
		At: func(point string) {
			mu.Lock()
			defer mu.Unlock()
			if point != o.DieAt {
				return
			}
			if left--; left == 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // nothing more is done
			}
		},
	})
}

// inTenant opens the tests' one tenant, as fleet does.
func inTenant(cat *catalog.Catalog, ownerURL string) func(context.Context, catalog.TenantID, func(context.Context, catalog.Tenant, *tenantdb.DB) error) error {
	return func(ctx context.Context, id catalog.TenantID, fn func(context.Context, catalog.Tenant, *tenantdb.DB) error) error {
		t, err := cat.Tenant(ctx, id)
		if err != nil {
			return err
		}
		if t.State != catalog.Active {
			return fmt.Errorf("tenant is %s: %w", t.State, catalog.ErrConflict)
		}
		cfg, err := pgx.ParseConfig(ownerURL)
		if err != nil {
			return err
		}
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			return tenantdb.Translate(ctx, err)
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		return fn(ctx, t, tenantdb.On(conn, t.Epoch))
	}
}

// bench is one tenant, whose jobs are done by workers of this process or others.
type bench struct {
	testing.TB
	cat   *catalog.Catalog
	id    catalog.TenantID
	order order
	blob  *blob.Store
}

func setup(t testing.TB) *bench {
	t.Helper()
	b := &bench{TB: t}
	cat, cfg := catalogtest.Open(t)
	b.cat = cat
	b.order.Keyset = filepath.Join(pgtest.TempDir(t), "master.key")
	b.ok(cfg.Keyset.Write(b.order.Keyset))
	b.order.CatalogURL = cfg.URL

	_, err := b.cat.AddServer(t.Context(), catalog.ServerSpec{
		Name: "pg-1", Host: "db.invalid", Port: 5432, SSLMode: "disable", AdminUser: "admin", Password: "server-pass",
		Version: 150000, MaxConnections: 100,
	})
	b.ok(err)
	made, err := b.cat.CreateTenant(t.Context(), catalog.TenantSpec{Slug: "acme"}, catalog.Onboarding{
		Taker: catalog.Taker{Worker: "test", Lease: time.Minute}, Steps: []string{"make"}, Latest: 5,
	})
	b.ok(err)
	b.ok(b.cat.ActivateTenant(t.Context(), made.Tenant.ID))
	b.ok(b.cat.EndOperation(t.Context(), made.Operation, catalog.OperationDone, "", 0))
	b.id, b.order.Tenant = made.Tenant.ID, made.Tenant.ID.String()
	b.order.OwnerURL = pgtest.Tenant(t).OwnerURL

	b.order.Blob = blob.Config{Endpoint: blobtest.Shared(t), Bucket: "finetune-" + strings.ToLower(uuid.NewString()[:8])}
	b.blob, err = blob.Open(t.Context(), b.order.Blob, true)
	b.ok(err)
	b.order.Dir, b.order.Worker = filepath.Join(pgtest.TempDir(t), "runs"), "test"
	return b
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// tenant looks into the tenant's database.
func (b *bench) tenant(fn func(ctx context.Context, db *tenantdb.DB) error) {
	b.Helper()
	b.ok(inTenant(b.cat, b.order.OwnerURL)(b.Context(), b.id, func(ctx context.Context, _ catalog.Tenant, db *tenantdb.DB) error {
		return fn(ctx, db)
	}))
}

// file puts a file into the tenant's storage.
func (b *bench) file(content string) uuid.UUID {
	b.Helper()
	f := tenantdb.File{ID: uuid.Must(uuid.NewV7()), Purpose: "fine-tune", Name: "train.jsonl", CreatedAt: time.Now()}
	b.ok(b.blob.Tenant(b.id).Put(b.Context(), tenantdb.FileKey(f.ID), strings.NewReader(content)))
	sum := sha256.Sum256([]byte(content))
	b.tenant(func(ctx context.Context, db *tenantdb.DB) error {
		if err := db.BeginFile(ctx, f); err != nil {
			return err
		}
		f.Bytes, f.Sum = int64(len(content)), sum[:]
		_, err := db.EndFile(ctx, tenantdb.Actor{Actor: "key:test"}, f, 1<<30)
		return err
	})
	return f.ID
}

// create makes a job over a file, and work of it.
func (b *bench) create(file uuid.UUID) tenantdb.Job {
	b.Helper()
	id := uuid.Must(uuid.NewV7())
	job := tenantdb.Job{
		ID: id, Base: baseModel, Trainer: trainer, Model: "ft:" + baseModel + ":acme:t:" + id.String()[24:], Seed: 7,
		Method: json.RawMessage(`{"type":"supervised"}`), TrainingFile: file, APIKey: "test", RequestHash: id[:],
	}
	b.ok(b.cat.Enqueue(b.Context(), catalog.WorkSpec{ID: id.String(), Tenant: b.id, Trainer: trainer}))
	b.tenant(func(ctx context.Context, db *tenantdb.DB) (err error) {
		job, _, err = db.CreateJob(ctx, tenantdb.Actor{Actor: "key:test", Audit: true}, job, 0)
		return err
	})
	return job
}

func (b *bench) job(id uuid.UUID) (job tenantdb.Job) {
	b.Helper()
	b.tenant(func(ctx context.Context, db *tenantdb.DB) (err error) {
		job, err = db.Job(ctx, id)
		return err
	})
	return job
}

// work runs a worker of this process until the test's end, or stop.
func (b *bench) work() (stop func()) {
	b.Helper()
	self, err := os.Executable()
	b.ok(err)
	w, err := newWorker(b.order, b.cat, b.blob, slog.New(slog.DiscardHandler), self)
	b.ok(err)
	ctx, cancel := context.WithCancel(b.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := w.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	b.Cleanup(stop)
	return stop
}

// start starts a worker of another process.
func (b *bench) start(o order) *exec.Cmd {
	b.Helper()
	text, err := json.Marshal(o)
	b.ok(err)
	self, err := os.Executable()
	b.ok(err)
	cmd := exec.CommandContext(b.Context(), self, "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	b.ok(cmd.Start())
	return cmd
}

// dies starts a worker that must be killed at its point, and waits for that.
func (b *bench) dies(o order) {
	b.Helper()
	var exit *exec.ExitError
	err := b.start(o).Wait()
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		b.Errorf("at %s it was not killed: %v", o.DieAt, err)
	}
}

// until waits for something, for a while.
func (b *bench) until(what string, fn func() bool) {
	b.Helper()
	for deadline := time.Now().Add(40 * time.Second); !fn(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("still not: %s", what)
		}
	}
}

// examples is training data of three answers, four questions each.
func examples() string {
	var s strings.Builder
	for _, x := range [][2]string{
		{"When do you open?|What are your hours?|At what time does the shop open?|Are you open early?", "We open at nine."},
		{"How do I cancel?|End my plan please|Stop my subscription|I want to leave", "Open Plan and tap Cancel."},
		{"Where are you?|What is the address?|Which street is it?|How do I find the shop?", "We are in Mill Lane."},
	} {
		for q := range strings.SplitSeq(x[0], "|") {
			line, _ := json.Marshal(map[string]any{"messages": []map[string]string{{"role": "user", "content": q}, {"role": "assistant", "content": x[1]}}})
			s.Write(append(line, '\n'))
		}
	}
	return s.String()
}
