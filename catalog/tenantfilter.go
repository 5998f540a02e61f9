package catalog

import (
	"context"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// TenantFilter narrows Tenants; zero fields don't filter. After is the last slug of
// the page before.
type TenantFilter struct {
	State, Server, Region, Plan, After string

	Label  string // a key, or key=value
	Schema string // a version, or one behind <, <=, > or >=
	// OlderThan and NewerThan are ages, by when the tenant was registered.
	OlderThan, NewerThan time.Duration
	// BackupOlderThan is the age of the newest backup, or of a tenant without any: only
	// those that are served or suspended.
	BackupOlderThan time.Duration
	Limit           int
}

const selectTenants = selectTenant + `
 where case when $1 = '' then t.state <> 'deleted' else t.state = $1 end
   and ($2 = '' or s.name = $2)
   and ($3 = '' or t.region = $3)
   and ($4 = '' or t.plan = $4)
   and ($5 = '' or t.labels ? $5)
   and ($6 = '' or t.labels ->> $5 = $7)
   and ($8 = '' or t.slug > $8)
   and t.schema_version between $9 and $10
   and ($11 = interval '0' or t.created_at <= now() - $11::interval)
   and ($12 = interval '0' or t.created_at > now() - $12::interval)
   and ($14 = interval '0' or t.state in ('active', 'suspended', 'moving')
        and coalesce((select max(b.made_at) from tenant_backups b where b.tenant = t.id), t.created_at) < now() - $14::interval)
 order by t.slug, t.id limit nullif($13, 0)`

// Tenants lists, by slug, deleted ones only when asked for by state.
func (c *Catalog) Tenants(ctx context.Context, f TenantFilter) ([]Tenant, error) {
	low, high, ok := schemaRange(f.Schema)
	errs := []error{
		within("limit", f.Limit, 0, math.MaxInt32),
		within("older_than", int64(f.OlderThan), 0, int64(maxAge)),
		within("newer_than", int64(f.NewerThan), 0, int64(maxAge)),
		within("backup_older_than", int64(f.BackupOlderThan), 0, int64(maxAge)),
	}
	if !ok {
		errs = append(errs, wrong("schema", "want a version such as 3, or <3, <=3, >3, >=3"))
	}
	if err := invalid(errs...); err != nil {
		return nil, err
	}
	key, value, valued := strings.Cut(f.Label, "=")
	by := ""
	if valued {
		by = "value"
	}
	rows, err := c.writer.Query(ctx, selectTenants, f.State, f.Server, f.Region, f.Plan, key, by, value, f.After,
		low, high, f.OlderThan, f.NewerThan, f.Limit, f.BackupOlderThan)
	if err != nil {
		return nil, wrap("list tenants", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Tenant])
	return list, wrap("list tenants", err)
}

var schemaPattern = regexp.MustCompile(`^(<=?|>=?|)([0-9]{1,18})$`)

// schemaRange is the versions that a filter lets through, both ends included.
func schemaRange(filter string) (low, high int64, ok bool) {
	if filter == "" {
		return math.MinInt64, math.MaxInt64, true
	}
	parts := schemaPattern.FindStringSubmatch(filter)
	if parts == nil {
		return 0, 0, false
	}
	n, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return 0, 0, false
	}
	switch parts[1] {
	case "<":
		return math.MinInt64, n - 1, true
	case "<=":
		return math.MinInt64, n, true
	case ">":
		return n + 1, math.MaxInt64, true
	case ">=":
		return n, math.MaxInt64, true
	default:
		return n, n, true
	}
}

// maxAge is as old as anything can be asked to be.
const maxAge = 100 * 366 * 24 * time.Hour

var daysPattern = regexp.MustCompile(`^([0-9]{1,5})d(.*)$`)

// ParseAge reads an age as people write it: 45s, 90m, 12h, 30d, 1d12h. field names
// it in the error, which is an ErrInvalid.
func ParseAge(field, text string) (time.Duration, error) {
	bad := invalid(wrong(field, "want an age such as 90m, 12h or 30d"))
	var age time.Duration
	rest := text
	if parts := daysPattern.FindStringSubmatch(text); parts != nil {
		days, err := strconv.Atoi(parts[1])
		if err != nil {
			return 0, bad
		}
		age, rest = time.Duration(days)*24*time.Hour, parts[2]
	}
	if rest != "" || text == "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || d > maxAge {
			return 0, bad
		}
		age += d
	}
	if age <= 0 || age > maxAge {
		return 0, bad
	}
	return age, nil
}
