package fleet

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Admin is a connection as every call of a fleet makes it. The caller closes.
func (f *Fleet) Admin(ctx context.Context, server string) (*pgx.Conn, error) {
	return f.admin(ctx, server, maintenance)
}

// AfterStep has fn called after each step of Create: the place where a test kills it.
func (f *Fleet) AfterStep(fn func(step string) error) { f.afterStep = fn }

// Template is the database that tenants are cloned from.
func (f *Fleet) Template() string { return f.template }

// Verifier is for its own test.
var Verifier = verifier
