package inference

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"freehold/catalog"
	"freehold/inference/engine"
	"freehold/inference/pii"
	"freehold/tenantdb"
)

// Borrower lends the tenant's database; *router.Tenant is one.
type Borrower interface {
	Borrow(ctx context.Context, class tenantdb.Class, fn func(ctx context.Context, db *tenantdb.DB) error) error
}

// Call is who asks: identity is an argument.
type Call struct {
	Tenant    Borrower
	Scope     string // the tenant's id
	Epoch     int64  // that Config and Limits are true as of
	Schema    int64  // of the tenant's database
	Config    catalog.TenantConfig
	Limits    catalog.KeyLimits // the key's own
	KeyID     string
	RequestID string

	// IdempotencyKey, when there is one, names the request, and RequestHash (32
	// bytes) is what of: route and body. The same request again is answered with the
	// first one's answer, for a day.
	IdempotencyKey string
	RequestHash    []byte
	// Gone reports whether a context's cause is that the client left. A request with
	// an Idempotency-Key goes on then.
	Gone func(cause error) bool
	// Told, when not nil, is told how the tenant stands, once, before the answer's
	// first byte.
	Told func(Standing)
}

// Config of a Service. Model, Models, Engine, Node, Spool and Logger are required.
type Config struct {
	// Model looks a platform model up by its name or an alias: catalog.ErrNotFound
	// when there is none.
	Model func(ctx context.Context, name string) (catalog.Model, error)
	// Models lists them.
	Models func(ctx context.Context) ([]catalog.Model, error)
	// Engine returns the engine of that name, ready to use.
	Engine func(ctx context.Context, name string) (engine.Engine, error)
	// Artifact opens an object of a tenant's own model, and says how long it is; the
	// caller closes. Nil: there is no object store, and models by artifact fail.
	Artifact func(ctx context.Context, tenant, key string) (io.ReadCloser, int64, error)
	// Node is this process, in what it reserves.
	Node uuid.UUID
	// Spool keeps a settlement that the tenant's database could not take, until it
	// can: a worker settles it then.
	Spool func(ctx context.Context, tenant string, s tenantdb.Settlement) error
	// Live lists the processes that are alive, and for how long one must have been
	// silent to count as dead. Nil: nobody's slots are ever given back here.
	Live func(ctx context.Context) (Live, error)
	// Seal and Open keep answers under an Idempotency-Key. Nil: the header is ignored.
	Seal func(tenant string, plain []byte) ([]byte, error)
	Open func(tenant string, sealed []byte) ([]byte, error)
	// Pseudonyms are what an end user is called in the log and towards engines when
	// their name is personal data: the first is the one in use. Nil: a fixed tag.
	Pseudonyms func(tenant, name string) []string
	// Admitted and Settled are told of each admission and settlement, Overrun of
	// tokens beyond what was granted. They must not block. Nil: nobody is told.
	Admitted, Settled func(Call)
	Overrun           func(tokens int64)
	// Tried is told of each engine that was asked, with the error it gave; nil:
	// nobody is told.
	Tried  func(engine string, err error)
	Logger *slog.Logger
}

func (c Config) validate() error {
	var errs []error
	for _, f := range []struct {
		missing bool
		name    string
	}{
		{c.Model == nil, "Model"}, {c.Models == nil, "Models"}, {c.Engine == nil, "Engine"},
		{c.Node == uuid.Nil, "Node"}, {c.Spool == nil, "Spool"}, {c.Logger == nil, "Logger"},
	} {
		if f.missing {
			errs = append(errs, errors.New("inference: Config."+f.name+" is required"))
		}
	}
	if (c.Seal == nil) != (c.Open == nil) {
		errs = append(errs, errors.New("inference: Config.Seal and Config.Open go together"))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Admitted == nil {
		c.Admitted = func(Call) {}
	}
	if c.Settled == nil {
		c.Settled = func(Call) {}
	}
	if c.Artifact == nil {
		c.Artifact = func(context.Context, string, string) (io.ReadCloser, int64, error) { return nil, 0, errNoStore }
	}
	if c.Overrun == nil {
		c.Overrun = func(int64) {}
	}
	return c
}

// Service answers requests of all tenants. It is safe for concurrent use. What it
// keeps between calls is in the tenants' databases; here only admissions and
// settlements on their way meet, to go together. Stop it.
//
// Besides the errors that each method names, what Borrow and the functions of
// Config return comes up unchanged; after tenantdb.ErrFenced nothing was done and
// the same request can be made again with a fresh Call.
type Service struct {
	cfg      Config
	admits   combiner[tenantdb.Admission, tenantdb.Grant]
	settles  combiner[tenantdb.Settlement, bool]
	swept    releases
	scanners *lru.Cache[string, *pii.Scanner] // of tenants with lists of their own
	plain    *pii.Scanner
	own      own

	life context.Context // ends with Stop
	stop context.CancelCauseFunc
}

// scannersKept bounds the scanners kept ready: one is cheap to make again.
const scannersKept = 1024

// New checks cfg.
func New(cfg Config) (*Service, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	scanners, err := lru.New[string, *pii.Scanner](scannersKept)
	if err != nil {
		return nil, err
	}
	known, err := newOwn()
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg.withDefaults(), scanners: scanners, plain: pii.New(pii.Options{}), own: known}
	// It bounds what outlives requests, and ends with Stop.
	s.life, s.stop = context.WithCancelCause(context.Background())
	return s, nil
}

// Stop ends what outlives its client, and has settlements that wait for a database
// spooled at once. Requests that still run are answered as before. It waits for
// nobody: who made a call waits for its return.
func (s *Service) Stop() { s.stop(ErrStopped) }

// marshal encodes what is known to encode.
func marshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}
