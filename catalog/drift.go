package catalog

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// What a thing of a tenant's schema is against the same thing in a database that was
// made from zero.
const (
	DiffMissing    = "missing"
	DiffUnexpected = "unexpected"
	DiffOther      = "different"
	DiffMore       = "more" // Is says how many differences aren't listed
)

// Difference is one thing of a tenant's schema that isn't as migrations make it.
type Difference struct {
	Object string `json:"object"` // as "column app.notes.body"
	What   string `json:"what"`
	Is     string `json:"is,omitempty"`
	Should string `json:"should,omitempty"`
}

// String says it to a person.
func (d Difference) String() string {
	switch d.What {
	case DiffMissing:
		return strings.TrimSuffix(d.Object+" is missing: "+d.Should, ": ")
	case DiffUnexpected:
		return strings.TrimSuffix(d.Object+" should not be there: "+d.Is, ": ")
	case DiffMore:
		return d.Is
	}
	switch {
	case d.Is == "":
		return d.Object + ": lacks " + d.Should
	case d.Should == "":
		return d.Object + ": has " + d.Is
	}
	return d.Object + ": is " + d.Is + ", should be " + d.Should
}

// TenantSchema is what a tenant's database looked like when it was compared.
type TenantSchema struct {
	Tenant         TenantID
	Fingerprint    []byte
	Versions       Versions
	Differences    []Difference
	InvalidIndexes []string
}

// The rows are locked for as long as they are referred to: one that is deleted
// meanwhile is left out.
const (
	lockLooked = `select id::text from tenants where id = any ($1) and state <> 'deleted' order by id for key share`

	upsertSchemas = `
insert into tenant_schemas (tenant, fingerprint, schema_version, product_version, drifted, differences, invalid_indexes)
select n.tenant, n.fingerprint, n.freehold, n.product, n.differences <> '[]', n.differences,
       array(select jsonb_array_elements_text(n.invalid))
  from unnest($1::uuid[], $2::bytea[], $3::bigint[], $4::bigint[], $5::jsonb[], $6::jsonb[])
       as n (tenant, fingerprint, freehold, product, differences, invalid)
on conflict (tenant) do update
   set fingerprint = excluded.fingerprint, schema_version = excluded.schema_version,
       product_version = excluded.product_version, drifted = excluded.drifted,
       differences = excluded.differences, invalid_indexes = excluded.invalid_indexes, checked_at = now()`
)

// SaveSchemas keeps what was found of tenants, instead of what was found before. Those
// that are deleted by now are left out.
func (c *Catalog) SaveSchemas(ctx context.Context, list []TenantSchema) error {
	// Two who save at once lock in one order.
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b TenantSchema) int { return strings.Compare(a.Tenant.String(), b.Tenant.String()) })
	ids := make([]TenantID, len(list))
	for i, s := range list {
		ids[i] = s.Tenant
	}
	return wrap("save schemas", pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, lockLooked, ids) // its error is in rows
		living, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		var tenants, differences, invalid []string
		var prints [][]byte
		var freehold, product []int64
		for _, s := range list {
			if !slices.Contains(living, s.Tenant.String()) {
				continue
			}
			tenants, prints = append(tenants, s.Tenant.String()), append(prints, s.Fingerprint)
			freehold, product = append(freehold, s.Versions.Freehold), append(product, s.Versions.Product)
			differences = append(differences, asJSON(s.Differences))
			invalid = append(invalid, asJSON(s.InvalidIndexes))
		}
		_, err = tx.Exec(ctx, upsertSchemas, tenants, prints, freehold, product, differences, invalid)
		return err
	}))
}

// asJSON is a list as jsonb wants it: of texts and structs of texts, which always can be.
func asJSON[T any](list []T) string {
	if list == nil {
		return "[]"
	}
	text, _ := json.Marshal(list)
	return string(text)
}

// SchemaReference is what a database looks like that migrations made from zero.
type SchemaReference struct {
	Sum         string // of the migrations, and of all else that it depends on
	Fingerprint []byte
	Objects     json.RawMessage
}

const selectReference = `
select r.sum, r.fingerprint, r.objects from schema_references r where r.sum = $1`

// Reference reads one. ErrNotFound.
func (c *Catalog) Reference(ctx context.Context, sum string) (SchemaReference, error) {
	rows, _ := c.writer.Query(ctx, selectReference, sum) // its error is in rows
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[SchemaReference])
	return r, wrap("read schema reference", err)
}

const (
	upsertReference = `
insert into schema_references (sum, fingerprint, objects) values ($1, $2, $3)
on conflict (sum) do update
   set fingerprint = excluded.fingerprint, objects = excluded.objects, made_at = now()`

	// Each can be made again, and what a server's extensions add changes.
	deleteOldReferences = `
delete from schema_references where made_at < now() - interval '30 days'`
)

// SaveReference keeps one, for 30 days.
func (c *Catalog) SaveReference(ctx context.Context, r SchemaReference) error {
	var batch pgx.Batch
	batch.Queue(upsertReference, r.Sum, r.Fingerprint, r.Objects)
	batch.Queue(deleteOldReferences)
	return wrap("save schema reference", c.writer.SendBatch(ctx, &batch).Close())
}
