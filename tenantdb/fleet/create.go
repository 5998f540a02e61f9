package fleet

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// Unfinished is returned by Create when the tenant is registered and not made: the
// operation waits for another try, by any worker, or for a person.
type Unfinished struct {
	Operation catalog.Operation
	Err       error
}

func (e *Unfinished) Error() string {
	return fmt.Sprintf("%v; operation %s is %s", e.Err, e.Operation.ID, e.Operation.State)
}

func (e *Unfinished) Unwrap() error { return e.Err }

// Create onboards a tenant and returns its API key, of scope all, shown now or
// never. Where a ready database waits, that is one transaction of the catalog;
// otherwise an operation, done here: template → role → database → privileges →
// identity and schema → object prefix → isolation proof → active, and a welcome
// mail is owed. When this process dies, a worker goes on with it within seconds;
// the same call does too, and shows another key. Errors: catalog.CreateTenant's,
// ErrStore before anything is made, *Unfinished.
func (f *Fleet) Create(ctx context.Context, spec catalog.TenantSpec) (catalog.Tenant, string, error) {
	if err := f.preflight(ctx); err != nil {
		return catalog.Tenant{}, "", fmt.Errorf("create tenant %s: %w", spec.Slug, err)
	}
	made, err := f.cat.CreateTenant(ctx, spec, catalog.Onboarding{
		Taker: f.taker(), Steps: stepNames(onboarding), Latest: f.latest,
	})
	t := made.Tenant
	switch {
	case err != nil:
		return catalog.Tenant{}, "", err
	case made.Replayed:
		return t, "", nil
	case !made.Claimed:
		f.dieAt(registered)
		if err := f.do(ctx, made.Operation); err != nil {
			return t, "", fmt.Errorf("create tenant %s: %w", t.Slug, f.unfinished(ctx, made.Operation, err))
		}
		if t, err = f.cat.Tenant(ctx, t.ID); err != nil {
			return t, "", err
		}
	}
	f.log.InfoContext(ctx, "tenant created", "tenant", t.ID.String(), "slug", t.Slug, "server", t.Server, "claimed", made.Claimed)
	return t, made.Token, nil
}

// Register is the beginning of Create: what is left to do is a worker's, and the
// operation tells of it; it is zero where a ready database was claimed. The key
// lets nobody in before the tenant is active.
func (f *Fleet) Register(ctx context.Context, spec catalog.TenantSpec) (catalog.Creation, error) {
	return f.cat.CreateTenant(ctx, spec, catalog.Onboarding{Steps: stepNames(onboarding), Latest: f.latest})
}

// preflight finds out that the object store is away before anything is begun,
// unless a ready database may do, which has its prefix.
func (f *Fleet) preflight(ctx context.Context) error {
	if f.blob == nil {
		return nil
	}
	ready, err := f.cat.AnyReady(ctx)
	if err != nil || ready {
		return err
	}
	if err := f.blob.Check(ctx); err != nil {
		return storeError(ctx, err)
	}
	return nil
}

func (f *Fleet) unfinished(ctx context.Context, o catalog.Operation, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if now, rerr := f.cat.Operation(ctx, o.ID); rerr == nil {
		o = now
	}
	return &Unfinished{o, err}
}

// registered is where the catalog's part of an onboarding is done.
const registered = catalog.KindOnboard + "/register:recorded"

// onboarding makes a tenant that no ready database waited for. Row, configuration
// and key are there before it begins.
var onboarding = []step{
	{"register", func(context.Context, *act) error { return nil }},
	{"template", at((*home).prepareTemplate)},
	{"role", at((*home).makeRole)},
	{"database", at((*home).makeDatabase)},
	{"privileges", at((*home).setPrivileges)},
	{"identity", writeIdentity},
	{"prefix", at((*home).makePrefix)},
	{"proof", at((*home).prove)},
	{"activate", activate},
}

// mayGoOn refuses an onboarding whose tenant was deleted meanwhile. Of one that is
// there to be served already, only the end has to be written: it can't be cancelled.
func (a *act) mayGoOn(ctx context.Context) error {
	if a.op.Kind == catalog.KindMove {
		return a.mayMoveOn(ctx)
	}
	if a.op.Kind == catalog.KindRestore {
		return a.mayRestoreOn(ctx)
	}
	if a.op.Kind != catalog.KindOnboard {
		return nil
	}
	switch a.tenant.State {
	case catalog.Provisioning:
		return nil
	case catalog.Deleting, catalog.Deleted:
		return fmt.Errorf("tenant is %s: %w", a.tenant.State, catalog.ErrConflict)
	default:
		return a.cat.IgnoreCancel(ctx, a.op)
	}
}

// at makes a step of what a home does, under the tenant's lock.
func at(do func(*home, context.Context) error) func(context.Context, *act) error {
	return func(ctx context.Context, a *act) error {
		h, err := a.home(ctx)
		if err != nil {
			return err
		}
		return do(h, ctx)
	}
}

// home is the database that this act makes.
func (a *act) home(ctx context.Context) (*home, error) {
	if err := a.lock(ctx); err != nil {
		return nil, err
	}
	target := catalog.Target{Schema: a.latest}
	if err := a.args(&target); err != nil {
		return nil, err
	}
	return &home{
		Fleet: a.Fleet, id: a.tenant.ID, server: a.tenant.Server, conn: a.conn, named: a.tenant,
		at: catalog.Versions{Freehold: target.Schema, Product: target.Product},
		login: func(ctx context.Context) (*pgx.ConnConfig, error) {
			route, err := a.cat.Route(ctx, a.tenant.ID)
			return route.Config, err
		},
	}, nil
}

func writeIdentity(ctx context.Context, a *act) error {
	h, err := a.home(ctx)
	if err != nil {
		return err
	}
	has, err := h.writeIdentity(ctx)
	if err != nil {
		return err
	}
	if err := a.record(ctx, a.tenant.ID, has); err != nil {
		return err
	}
	if has.Freehold < namesSince {
		return nil
	}
	return a.cat.SetNamed(ctx, a.tenant.ID)
}

// activate has the tenant served. The fleet may have moved on since the database was
// begun: it is brought up first then.
func activate(ctx context.Context, a *act) error {
	return a.upToDate(ctx, a.tenant, func() error {
		return a.cat.ActivateTenant(ctx, a.tenant.ID)
	})
}
