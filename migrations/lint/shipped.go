package lint

// shipped are findings about files of Freehold's that released binaries have applied,
// and that are therefore never edited: by stream, file and rule, each with its reason.
// Younger files say it in a comment of their own.
var shipped = map[string]map[string]map[string]string{
	StreamCatalog: {
		"00001_catalog.sql": {
			revoke: "gives back what the same file had granted to itself for one statement",
		},
		"00002_router.sql": {
			indexNotConcurrently: fewTenants,
		},
		"00003_lifecycle.sql": {
			tableRewrite:         "catalog_clock has one row",
			checkConstraint:      "servers has a row for each server",
			indexNotConcurrently: fewTenants,
		},
		"00004_inference.sql": {
			checkConstraint:      "a row for each tenant, key or model, or, in usage_daily, for each tenant and day",
			indexNotConcurrently: "a row for each key, or for each act of an operator",
		},
	},
	StreamFreehold: {
		"00001_tenant.sql": {
			revoke: "closes schema public before there was a release, where PostgreSQL 14 had left it open",
		},
		"00004_inference.sql": {
			indexNotConcurrently: "the table was one release old, and its index is partial: almost no row was in it",
			backfillWithDDL:      "the table was one release old, and the bill must not begin with a gap",
		},
	},
}

const fewTenants = "tenants has a row for each tenant: thousands, of which the index takes some"
