package catalog_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"freehold/catalog"
)

func TestSchemas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.tenant("acme")
	gone := catalog.NewTenantID()
	conn := b.admin()
	saved := func() (sum []byte, drifted bool, invalid int, version int64) {
		err := conn.QueryRow(t.Context(), `
			select fingerprint, drifted, cardinality(invalid_indexes), schema_version from tenant_schemas where tenant = $1`, acme.ID).
			Scan(&sum, &drifted, &invalid, &version)
		if err != nil {
			t.Fatal(err)
		}
		return sum, drifted, invalid, version
	}
	first := catalog.TenantSchema{
		Tenant: acme.ID, Fingerprint: []byte{1}, Versions: catalog.Versions{Freehold: 4, Product: 2},
		Differences:    []catalog.Difference{{Object: "table a.b", What: catalog.DiffMissing, Should: "it's \x1f ✓"}},
		InvalidIndexes: []string{`a."b c"`, "d"},
	}
	if err := b.cat.SaveSchemas(t.Context(), []catalog.TenantSchema{first, {Tenant: gone, Fingerprint: []byte{2}}}); err != nil {
		t.Fatal(err)
	}
	if sum, drifted, invalid, version := saved(); sum[0] != 1 || !drifted || invalid != 2 || version != 4 {
		t.Errorf("saved %v %t %d %d", sum, drifted, invalid, version)
	}
	if err := b.cat.SaveSchemas(t.Context(), []catalog.TenantSchema{{Tenant: acme.ID, Fingerprint: []byte{3}}}); err != nil {
		t.Fatal(err)
	}
	if sum, drifted, invalid, version := saved(); sum[0] != 3 || drifted || invalid != 0 || version != 0 {
		t.Errorf("then %v %t %d %d", sum, drifted, invalid, version)
	}
	if err := b.cat.SaveSchemas(t.Context(), nil); err != nil {
		t.Error(err)
	}

	if _, err := b.cat.Reference(t.Context(), "s"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("before it is there: %v", err)
	}
	for _, objects := range []string{`[]`, `[{"kind": "table"}]`} {
		ref := catalog.SchemaReference{Sum: "s", Fingerprint: []byte(objects), Objects: json.RawMessage(objects)}
		if err := b.cat.SaveReference(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		if got, err := b.cat.Reference(t.Context(), "s"); err != nil || string(got.Fingerprint) != objects || string(got.Objects) != objects {
			t.Errorf("%+v %v", got, err)
		}
	}
	if _, err := conn.Exec(t.Context(), `update schema_references set made_at = now() - interval '31 days'`); err != nil {
		t.Fatal(err)
	}
	if err := b.cat.SaveReference(t.Context(), catalog.SchemaReference{Sum: "t", Fingerprint: []byte{1}, Objects: json.RawMessage(`[]`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.cat.Reference(t.Context(), "s"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("an old one: %v", err)
	}
}

func TestDifferenceInWords(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]catalog.Difference{
		"column a.b is missing: text":       {Object: "column a.b", What: catalog.DiffMissing, Should: "text"},
		"schema a is missing":               {Object: "schema a", What: catalog.DiffMissing},
		"column a.b should not be there: x": {Object: "column a.b", What: catalog.DiffUnexpected, Is: "x"},
		"column a.b: is x, should be y":     {Object: "column a.b", What: catalog.DiffOther, Is: "x", Should: "y"},
		"column a.b: lacks y":               {Object: "column a.b", What: catalog.DiffOther, Should: "y"},
		"column a.b: has x":                 {Object: "column a.b", What: catalog.DiffOther, Is: "x"},
		"7 more differences":                {Object: "schema", What: catalog.DiffMore, Is: "7 more differences"},
	} {
		if got := d.String(); got != want || strings.HasSuffix(got, ": ") {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
