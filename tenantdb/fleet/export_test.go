package fleet

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// Admin is a connection as every call of a fleet makes it. The caller closes.
func (f *Fleet) Admin(ctx context.Context, server string) (*pgx.Conn, error) {
	return f.admin(ctx, server, maintenance)
}

// Crash has fn called at every point at which dying differs: the place where a test
// kills the process.
func (f *Fleet) Crash(fn func(point string)) { f.crash = fn }

// Patience is how long a change waits for what is away: less than for a person.
func (f *Fleet) Patience(d time.Duration) { f.patience = d }

// Template is the database that tenants of the newest schema are cloned from.
func (f *Fleet) Template() string {
	return f.TemplateOf(catalog.Versions{Freehold: f.latest})
}

// TemplateOf is the database that tenants of these versions are cloned from.
func (f *Fleet) TemplateOf(v catalog.Versions) string {
	t, err := f.template(context.Background(), v)
	if err != nil {
		panic(err)
	}
	return t.name
}

// Points lists every point of an act at which a test may kill the worker.
func Points(kind string) []string {
	var points []string
	for _, s := range acts()[kind] {
		for _, at := range []string{"begun", "made", "recorded"} {
			points = append(points, kind+"/"+s.name+":"+at)
		}
		if s.name == "register" { // it is done in one with the operation's beginning
			points = []string{registered}
		}
	}
	return points
}

// MovePoints lists the points within a move's steps.
func MovePoints() []string {
	var points []string
	for _, at := range []string{
		"home:database", "home:definitions", "replicate:published", "replicate:slot", "replicate:subscribed",
		"cutover:paused", "cutover:copied", "cutover:shutting", "cutover:shut", "cutover:same", "cutover:switched",
		"retire:unsubscribed", "retire:unpublished",
	} {
		points = append(points, catalog.KindMove+"/"+at)
	}
	return points
}

// LinkOf is the name of what a move by replication makes on servers.
func (f *Fleet) LinkOf(ctx context.Context, operation string) string {
	prefix, err := f.linkPrefix(ctx)
	if err != nil {
		panic(err)
	}
	return linkOf(prefix, operation)
}

// RestorePoints lists the points of a restore, in place or as a new tenant, at which
// dying differs.
func RestorePoints() []string {
	var points []string
	for _, at := range []string{
		"check:made", "build:created", "build:loaded", "build:made", "switch:prepared", "switch:paused", "switch:closed",
		"switch:carried", "switch:kept", "switch:renamed", "serve:owned", "serve:made",
	} {
		points = append(points, catalog.KindRestore+"/"+at)
	}
	return points
}

// RebornPoints lists those of a restore as a new tenant.
func RebornPoints() []string {
	var points []string
	for _, at := range []string{"database:created", "database:filled", "objects:made", "identity:owned", "identity:made"} {
		points = append(points, catalog.KindOnboard+"/"+at)
	}
	return points
}

// CarriedTables are the tables that a restore has a rule for.
func CarriedTables() []string {
	return slices.Concat(carriedWhole, carriedThings, carriedMerged, carriedNot)
}

// ReadyPoints lists every point of making and dropping a ready database at which
// dying differs.
func ReadyPoints() []string {
	var points []string
	for _, part := range making {
		points = append(points, "ready/"+part.name+":begun", "ready/"+part.name+":made")
	}
	for _, name := range []string{"database", "role", "prefix"} {
		points = append(points, "unready/"+name+":begun", "unready/"+name+":made")
	}
	return points
}

// RolloutPoints lists every point of a target's migration at which dying differs.
func RolloutPoints() []string {
	var points []string
	for _, at := range []string{"claimed", "locked", "ddl", "row", "applied", "done", "recorded"} {
		points = append(points, "rollout/"+at)
	}
	return points
}

// Verifier and TemplateVersions are for their own tests.
var (
	Verifier         = verifier
	TemplateVersions = templateVersions
)

// Expired and ParseBackupKey are for their own tests.
var (
	Expired        = expired
	ParseBackupKey = parseBackupKey
)

// Verdict is what Judge sees of a wave.
type Verdict = verdict

// Judge and Tail are for the gate's own test.
var (
	Judge = judge
	Tail  = tail
)
