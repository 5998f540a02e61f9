package catalog

import (
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// TenantID names a tenant for good: a uuid v7 that outlives slug, server and
// database. The zero value is no tenant.
type TenantID struct{ u uuid.UUID }

// NewTenantID makes an id that was never used before.
func NewTenantID() TenantID { return TenantID{uuid.Must(uuid.NewV7())} }

// ParseTenantID is the only way from text to a TenantID. It accepts the canonical
// 36-character form alone and keeps nothing of s, so s may be a reused buffer.
func ParseTenantID(s string) (TenantID, error) {
	if len(s) != 36 {
		return TenantID{}, fmt.Errorf("parse tenant id: want 36 characters, have %d", len(s))
	}
	u, err := uuid.Parse(s)
	if err != nil {
		return TenantID{}, fmt.Errorf("parse tenant id: not a uuid")
	}
	return TenantID{u}, nil
}

// String returns the canonical form.
func (id TenantID) String() string { return id.u.String() }

// IsZero reports whether id names no tenant.
func (id TenantID) IsZero() bool { return id.u == uuid.Nil }

// UUID returns the id's bytes.
func (id TenantID) UUID() uuid.UUID { return id.u }

// MarshalText implements encoding.TextMarshaler.
func (id TenantID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// DatabaseName returns t_<hex>, the name of the tenant's database and of its
// login role. It tells nothing of the tenant: every role can list databases.
func (id TenantID) DatabaseName() string { return databasePrefix + hex.EncodeToString(id.u[:]) }

const databasePrefix = "t_"

// UUIDValue lets pgx write the id.
func (id TenantID) UUIDValue() (pgtype.UUID, error) {
	return pgtype.UUID{Bytes: id.u, Valid: true}, nil
}

// ScanUUID lets pgx read the id.
func (id *TenantID) ScanUUID(v pgtype.UUID) error {
	if !v.Valid {
		*id = TenantID{}
		return nil
	}
	id.u = v.Bytes
	return nil
}
