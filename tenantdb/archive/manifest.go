package archive

import (
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
)

// Format is what this package writes, and the only one that it reads.
const Format = 1

// Meta says whose archive it is, and what it was made from.
type Meta struct {
	Tenant   string    `json:"tenant"` // its id
	Slug     string    `json:"slug"`
	Name     string    `json:"name,omitempty"`
	MadeAt   time.Time `json:"made_at"`  // the moment that all rows are true as of
	Schema   int64     `json:"schema"`   // version of Freehold's tables
	Product  int64     `json:"product"`  // version of the product's tables
	Postgres int       `json:"postgres"` // major version
}

// About is the archive's second entry: what is known before the first row is read.
type About struct {
	Format int `json:"freehold_export"`
	Meta

	Tables []Table `json:"tables"`
}

// Manifest is the archive's last entry: what is in it, and the sum of each entry.
type Manifest struct {
	About

	Sequences []Sequence `json:"sequences"`
	Entries   []Entry    `json:"entries"` // in the archive's order, without the manifest
	LeftOut   []LeftOut  `json:"left_out"`
}

// Table is one whose rows are in the archive. Rows is how many, in the manifest.
type Table struct {
	Schema  string   `json:"schema"`
	Name    string   `json:"name"`
	Columns []Column `json:"columns"`
	Rows    int64    `json:"rows"`

	parted bool // its rows are its partitions'
}

// plain is a name that needs no quotes.
var plain = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// String is schema.name, in quotes where a name is an unusual one.
func (t Table) String() string {
	if plain.MatchString(t.Schema) && plain.MatchString(t.Name) {
		return t.Schema + "." + t.Name
	}
	return t.ident()
}

func (t Table) ident() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// Column is a column of a table, with its type as Postgres writes it.
type Column struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Generated bool   `json:"generated,omitempty"` // from others: it isn't brought back

	exact exactness
}

// Sequence is where a sequence of the product's stands.
type Sequence struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	Last   int64  `json:"last"` // given out
}

// Entry is a file of the archive.
type Entry struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hex
	Rows   int64  `json:"rows,omitempty"`
	Table  string `json:"table,omitempty"`  // schema.name, of lines of rows
	Object string `json:"object,omitempty"` // key under the tenant's prefix, of an object's bytes
	Name   string `json:"name,omitempty"`   // as a file was called when it was uploaded
}

// LeftOut is something of the tenant's that isn't in the archive, or not as it was.
type LeftOut struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Totals is how much is in an archive.
type Totals struct {
	Tables int
	Rows   int64
	Files  int64 // files' and models' objects
}

// Names of entries.
const (
	readmePath      = "README.txt"
	aboutPath       = "about.json"
	schemaPath      = "schema.sql"
	constraintsPath = "constraints.sql"
	manifestPath    = "manifest.json"
)

const readme = `This is all that a tenant has in Freehold: its rows, the bytes of its files and of
its models.

  about.json       whose it is, when it was made, tables and their columns
  schema.sql       the product's own tables, types and functions (SQL for Postgres);
                   missing where there are none
  tables/          a folder a table; each line of a .jsonl is a row, as JSON. Binary
                   values are hex behind \x, moments are ISO 8601 in UTC, numbers are
                   written with all their digits. Where JSON can't say exactly what a
                   value was, the row has it again as Postgres writes it, under
                   "freehold:as_written"
  constraints.sql  indexes, keys and triggers of those tables: to be run after the
                   rows are in
  files/, models/  uploaded files and trained models, byte by byte
  manifest.json    every entry with its length and SHA-256, rows by table, and what
                   was left out and why

tables/freehold.* are the platform's: predictions, what was used, the audit, files
and fine-tuning. Read the manifest last: it is written last.
`
