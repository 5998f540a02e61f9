package catalog

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Creation is what CreateTenant made.
type Creation struct {
	Tenant Tenant
	// Token is the tenant's first API key, of scope all: shown now or never. It is
	// empty when Replayed. Nobody gets in with it before the tenant is active.
	Token string
	// Operation is what is left to do, in the caller's hands for its lease; zero
	// when Claimed or Replayed.
	Operation Operation
	Claimed   bool // a ready database was there: the tenant is active
	Resumed   bool // an earlier creation is gone on with
	Replayed  bool // the same request made this tenant before
}

// Onboarding is how a tenant is made that no ready database waits for: by the
// taker, or, without one, by the next worker.
type Onboarding struct {
	Taker
	Steps  []string // the first is done when CreateTenant returns: row, configuration, key
	Latest int64    // schema version of the first tenant; others get the fleet's floors
	From   *BackupSource
}

// Target is the versions that a new tenant begins at, as an operation's args have
// them. Those of an older release say nothing of the product: the tenant is brought
// to it before it becomes active.
type Target struct {
	Schema  int64 `json:"schema"`
	Product int64 `json:"product,omitempty"`
	// Backup is what it is restored from; nil: it begins empty.
	Backup *BackupSource `json:"backup,omitempty"`
}

// CreateTenant places a tenant, and either claims a ready database for it, in this
// one transaction, or registers it as provisioning with the operation that makes
// its database. Row, default configuration and API key are there in either case.
// For a tenant of the same slug and properties that is provisioning, and that
// nobody works on, it goes on with that, under a new key. Errors: ErrExists when
// the slug is taken, *Busy while another worker makes it, ErrNotFound for an
// unknown server, *Full when none can take it, ErrMismatch.
func (c *Catalog) CreateTenant(ctx context.Context, spec TenantSpec, o Onboarding) (made Creation, err error) {
	if spec.Name == "" {
		spec.Name = spec.Slug
	}
	spec.Plan = orDefault(spec.Plan, "standard")
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	if spec.Pin == nil {
		spec.Pin = map[string]string{}
	}
	spec.Actor = orDefault(spec.Actor, "unknown")
	if err := spec.validate(); err != nil {
		return Creation{}, fmt.Errorf("create tenant: %w", err)
	}
	if spec.RequestKey != "" {
		if _, err := c.writer.Exec(ctx, forgetRequest, spec.RequestKey); err != nil {
			return Creation{}, wrap("create tenant", err)
		}
	}
	ctx, cancel, err := whole(ctx)
	if err != nil {
		return Creation{}, wrap("create tenant", err)
	}
	defer cancel()
	for try := 1; ; try++ {
		err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
			made, err = c.createTenant(ctx, tx, spec, o)
			return err
		})
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != uniqueViolation || try == 3 {
			break // else another process was quicker: what it wrote is visible now
		}
	}
	if err != nil {
		return Creation{}, wrap("create tenant", err)
	}
	return made, nil
}

func (c *Catalog) createTenant(ctx context.Context, tx pgx.Tx, spec TenantSpec, o Onboarding) (Creation, error) {
	if made, err := replayed(ctx, tx, spec, o); err != nil || made.Replayed {
		return made, err
	}
	// First, so that a creation goes on although its server takes no new tenants.
	made, err := resumeCreation(ctx, tx, spec, o)
	if err != nil || made.Resumed {
		return made, err
	}
	at, err := look(ctx, tx, spec)
	if err != nil {
		return Creation{}, err
	}
	versions := at.floors
	versions.Freehold = orDefault(versions.Freehold, o.Latest)
	if versions.Freehold > o.Latest {
		return Creation{}, fmt.Errorf("create tenant: the fleet is at schema %d, this binary's latest is %d: %w",
			versions.Freehold, o.Latest, ErrConflict)
	}
	id, claimed, err := c.settle(ctx, tx, at, versions, o.From == nil)
	if err != nil {
		return Creation{}, err
	}
	made = Creation{Claimed: claimed}
	var key string
	key, made.Token = newToken()
	var batch pgx.Batch
	batch.Queue(insertTenantConfig, id)
	queueFirstKey(&batch, id, key, made.Token)
	if claimed {
		queueWelcome(&batch, id, spec.Email, key)
	} else {
		if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
			return Creation{}, err
		}
		batch = pgx.Batch{}
		if made.Operation, err = beginOnboarding(ctx, tx, id, spec, o, versions); err != nil {
			return Creation{}, err
		}
	}
	return made, finish(ctx, tx, &batch, id, &made.Tenant)
}

// settle finds the tenant its place: a ready database of the best server that has
// one, claimed when claim says so, or else room on the best server, where it is
// registered.
func (c *Catalog) settle(ctx context.Context, tx pgx.Tx, at *places, versions Versions, claim bool) (id TenantID, claimed bool, err error) {
	for _, s := range at.candidates {
		if claim && s.ReadyNow > 0 {
			id, claimed, err = claimReady(ctx, tx, at.spec, placement{s.ID, s.Name, s.Region}, versions)
			if err != nil || claimed {
				return id, claimed, err
			}
		}
		place, ok, err := at.reserve(ctx, tx, s)
		if err != nil {
			return id, false, err
		}
		if ok {
			id, err = c.registerTenant(ctx, tx, at.spec, place)
			return id, false, err
		}
	}
	return id, false, at.full
}

// finish ends a change to a tenant with the clock, which is locked last, and reads
// the tenant: with what else is queued, one round trip.
func finish(ctx context.Context, tx pgx.Tx, batch *pgx.Batch, id TenantID, t *Tenant) error {
	batch.Queue(tickTenant, id)
	batch.Queue(selectTenant+` where t.id = $1`, id).Query(func(rows pgx.Rows) (err error) {
		*t, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Tenant])
		return err
	})
	return tx.SendBatch(ctx, batch).Close()
}

const (
	selectRequested = `
select id, request_hash = $2 as same, state from tenants where request_key = $1`

	forgetRequest = `
update tenants set request_key = null, request_hash = null
 where request_key = $1 and created_at < now() - interval '1 day'`
)

// replayed finds the tenant that the same request has made before.
func replayed(ctx context.Context, tx pgx.Tx, spec TenantSpec, by Onboarding) (Creation, error) {
	if spec.RequestKey == "" {
		return Creation{}, nil
	}
	var (
		id    TenantID
		same  bool
		state State
	)
	err := tx.QueryRow(ctx, selectRequested, spec.RequestKey, spec.RequestHash).Scan(&id, &same, &state)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Creation{}, nil
	case err != nil:
		return Creation{}, err
	case !same:
		return Creation{}, fmt.Errorf("create tenant: %w", ErrMismatch)
	case state == Provisioning && by.Worker != "":
		return Creation{}, nil // it is gone on with, by its slug
	}
	made := Creation{Replayed: true}
	if made.Tenant, err = queryTenant(ctx, tx, selectTenant+` where t.id = $1`, id); err != nil || state != Provisioning {
		return made, err
	}
	made.Operation, err = readOperation(ctx, tx, selectOnboarding, id)
	return made, err
}

const (
	lockSlug = `select id, state from tenants where slug = $1 and state <> 'deleted' for no key update`

	// Who says less than was said before still means the same tenant.
	selectSame = `
select t.name = $2 and t.email = $3 and t.plan = $4 and t.labels = $5 and t.pin = $6
       and ($7 = '' or t.region = $7) and ($8 = '' or s.name = $8)
  from tenants t join servers s on s.id = t.server_id where t.id = $1`

	selectOnboarding = ` where o.tenant = $1 and o.kind = 'onboard' order by o.id desc limit 1`
)

// resumeCreation goes on with the tenant of the slug as long as it is provisioning.
func resumeCreation(ctx context.Context, tx pgx.Tx, spec TenantSpec, by Onboarding) (Creation, error) {
	var id TenantID
	var state State
	err := tx.QueryRow(ctx, lockSlug, spec.Slug).Scan(&id, &state)
	if errors.Is(err, pgx.ErrNoRows) {
		return Creation{}, nil
	}
	if err != nil {
		return Creation{}, err
	}
	if state != Provisioning {
		return Creation{}, fmt.Errorf("create tenant: slug: %w", ErrExists)
	}
	var same bool
	err = tx.QueryRow(ctx, selectSame, id, spec.Name, spec.Email, spec.Plan, spec.Labels, spec.Pin, spec.Region, spec.Server).Scan(&same)
	if err != nil {
		return Creation{}, err
	}
	if !same {
		return Creation{}, fmt.Errorf("create tenant: slug: one that is being made with other properties: %w", ErrExists)
	}
	made := Creation{Resumed: true}
	o, err := readOperation(ctx, tx, selectOnboarding, id)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // of a release that had no operations
		var floors Versions
		if err = tx.QueryRow(ctx, selectFloors).Scan(&floors.Freehold, &floors.Product); err == nil {
			floors.Freehold = orDefault(floors.Freehold, by.Latest)
			made.Operation, err = beginOnboarding(ctx, tx, id, spec, by, floors)
		}
	case err != nil:
	case !sameSource(o, by.From):
		err = fmt.Errorf("create tenant: slug: one that is being made from something else: %w", ErrExists)
	case o.State == OperationDone || o.State == OperationCancelled:
		err = fmt.Errorf("create tenant: its onboarding %s is %s: %w", o.ID, o.State, ErrConflict)
	case by.Worker == "":
		err = &Busy{o}
	default:
		made.Operation, err = takeIn(ctx, tx, o.ID, by.Taker)
	}
	if err != nil {
		return Creation{}, err
	}
	// What an earlier try made nobody has seen.
	var key string
	key, made.Token = newToken()
	var batch pgx.Batch
	batch.Queue(deleteFirstKeys, id, firstKeyName)
	queueFirstKey(&batch, id, key, made.Token)
	return made, finish(ctx, tx, &batch, id, &made.Tenant)
}

const insertTenant = `
insert into tenants (id, slug, name, email, plan, labels, pin, region, state, server_id, database, role,
                     secret, secret_key_id, epoch, request_key, request_hash)
values ($1, $2, $3, $4, $5, $6, $7, $8, 'provisioning', $9, $10, $10, $11, $12, 0, nullif($13, ''), $14)`

const insertTenantConfig = `insert into tenant_config (tenant) values ($1)`

func (c *Catalog) registerTenant(ctx context.Context, tx pgx.Tx, spec TenantSpec, at placement) (TenantID, error) {
	id := NewTenantID()
	sealed, keyID, err := c.keyset.Seal([]byte(newPassword()), tenantAAD(id))
	if err != nil {
		return id, err
	}
	_, err = tx.Exec(ctx, insertTenant, id, spec.Slug, spec.Name, spec.Email, spec.Plan, spec.Labels, spec.Pin,
		orDefault(spec.Region, at.region), at.id, id.DatabaseName(), sealed, keyID, spec.RequestKey, spec.RequestHash)
	return id, err
}

const recordFirstStep = `
update operation_steps set state = 'done', started_at = now(), ended_at = clock_timestamp() where operation = $1 and n = 1`

// beginOnboarding writes the operation, in its creator's hands.
func beginOnboarding(ctx context.Context, tx pgx.Tx, id TenantID, spec TenantSpec, by Onboarding, versions Versions) (Operation, error) {
	o, err := beginOperation(ctx, tx, OperationSpec{
		Kind: KindOnboard, Tenant: id, Actor: spec.Actor, Args: Target{versions.Freehold, versions.Product, by.From}, Steps: by.Steps,
	})
	if err != nil {
		return o, err
	}
	if _, err := tx.Exec(ctx, recordFirstStep, o.ID); err != nil {
		return o, err
	}
	if by.Worker == "" {
		return readOperation(ctx, tx, ` where o.id = $1`, o.ID)
	}
	return takeIn(ctx, tx, o.ID, by.Taker)
}

// firstKeyName is the name of the key that a tenant is made with.
const firstKeyName = "first"

const deleteFirstKeys = `delete from api_keys where tenant = $1 and name = $2`

const insertFirstKey = `
insert into api_keys (id, tenant, name, hash, scopes) values ($1, $2, $3, $4, $5)`

func queueFirstKey(batch *pgx.Batch, id TenantID, key, token string) {
	batch.Queue(insertFirstKey, key, id, firstKeyName, hashToken(token), []string{ScopeAll})
}

// newPassword is 32 random bytes in 43 characters that need no quoting.
func newPassword() string {
	var b [32]byte
	rand.Read(b[:]) // never fails: it ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}
