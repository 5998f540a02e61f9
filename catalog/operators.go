package catalog

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Roles of operators, each holding what those behind it hold.
const (
	RoleOwner    = "owner"    // all
	RoleOperator = "operator" // all but operators' tokens
	RoleViewer   = "viewer"   // looks, and changes nothing
)

// Operator is somebody who has a token of the operators' API, without the token.
type Operator struct {
	Name      string     `json:"name"`
	Role      string     `json:"role"`
	ID        string     `json:"id"` // the token's public part
	CreatedAt time.Time  `json:"created_at"`
	RotatedAt *time.Time `json:"rotated_at"`
	ExpiresAt *time.Time `json:"expires_at"`
	RevokedAt *time.Time `json:"revoked_at"`
}

// HolderName is who the audit names when the token in a node's own file was used.
const HolderName = "admin-token"

var operatorPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,62}$`)

const operatorColumns = `name, role, id, created_at, rotated_at, expires_at, revoked_at`

// The name of somebody who was revoked may be given a token again.
const insertOperator = `
insert into operators as o (name, role, id, hash, expires_at) values ($1, $2, $3, $4, $5)
on conflict (name) do update
   set role = excluded.role, id = excluded.id, hash = excluded.hash, expires_at = excluded.expires_at,
       created_at = now(), rotated_at = null, revoked_at = null
 where o.revoked_at is not null
returning ` + operatorColumns

// CreateOperator gives somebody a token; it is shown now or never. A nil expires
// is for good. ErrExists when the name has one that isn't revoked.
func (c *Catalog) CreateOperator(ctx context.Context, name, role string, expires *time.Time) (Operator, string, error) {
	errs := []error{
		match("name", name, operatorPattern, "1 to 63 of a-z, 0-9 and . _ @ -, beginning with a letter or digit"),
		oneOf("role", role, RoleOwner, RoleOperator, RoleViewer),
	}
	if name == HolderName {
		errs = append(errs, wrong("name", "%s is who holds the token in the nodes' file", HolderName))
	}
	if expires != nil && !expires.After(time.Now()) {
		errs = append(errs, wrong("expires_at", "already past"))
	}
	if err := invalid(errs...); err != nil {
		return Operator{}, "", fmt.Errorf("create operator: %w", err)
	}
	id, token := makeToken(operatorPrefix)
	rows, err := c.writer.Query(ctx, insertOperator, name, role, id, hashToken(token), expires)
	if err != nil {
		return Operator{}, "", wrap("create operator", err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Operator])
	if errors.Is(err, pgx.ErrNoRows) {
		return Operator{}, "", fmt.Errorf("create operator: %w", ErrExists)
	}
	if err != nil {
		return Operator{}, "", wrap("create operator", err)
	}
	return o, token, nil
}

const (
	rotateOperator = `
update operators
   set id = $2, hash = $3, rotated_at = now(), expires_at = now() + (expires_at - coalesce(rotated_at, created_at))
 where name = $1 and revoked_at is null
returning ` + operatorColumns

	selectOperatorExists = `select true from operators where name = $1`
)

// RotateOperator replaces the token of an operator: the old one holds no longer,
// the new one for as long as the old one did. ErrNotFound; ErrConflict when it was
// revoked.
func (c *Catalog) RotateOperator(ctx context.Context, name string) (Operator, string, error) {
	id, token := makeToken(operatorPrefix)
	rows, err := c.writer.Query(ctx, rotateOperator, name, id, hashToken(token))
	if err != nil {
		return Operator{}, "", wrap("rotate operator", err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Operator])
	if !errors.Is(err, pgx.ErrNoRows) {
		if err != nil {
			return Operator{}, "", wrap("rotate operator", err)
		}
		return o, token, nil
	}
	var exists bool
	if err := c.writer.QueryRow(ctx, selectOperatorExists, name).Scan(&exists); err != nil {
		return Operator{}, "", wrap("rotate operator", err)
	}
	return Operator{}, "", fmt.Errorf("rotate operator: the token was revoked: %w", ErrConflict)
}

const revokeOperator = `
update operators set revoked_at = coalesce(revoked_at, now()) where name = $1
returning ` + operatorColumns

// RevokeOperator ends an operator's token, the last owner's too: the token in the
// nodes' own file stays. Twice is once. ErrNotFound.
func (c *Catalog) RevokeOperator(ctx context.Context, name string) (Operator, error) {
	rows, err := c.writer.Query(ctx, revokeOperator, name)
	if err != nil {
		return Operator{}, wrap("revoke operator", err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Operator])
	return o, wrap("revoke operator", err)
}

const selectOperators = `select ` + operatorColumns + ` from operators order by name`

// Operators lists them by name, revoked and expired ones too.
func (c *Catalog) Operators(ctx context.Context) ([]Operator, error) {
	rows, err := c.writer.Query(ctx, selectOperators)
	if err != nil {
		return nil, wrap("list operators", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Operator])
	return list, wrap("list operators", err)
}

const lookUpOperator = `
select ` + operatorColumns + `, hash,
       revoked_at is null and (expires_at is null or expires_at > now()) as usable
  from operators where id = $1`

// AuthenticateOperator tells whose token it is: ErrInvalidKey for every one that
// doesn't hold, a mistyped one without a look-up. What it answers is the catalog's
// state now, so that a revocation binds at once; ErrUnavailable while that can't
// be read.
func (c *Catalog) AuthenticateOperator(ctx context.Context, token string) (Operator, error) {
	id, err := parseToken(operatorPrefix, token)
	if err != nil {
		return Operator{}, err
	}
	rows, err := c.writer.Query(ctx, lookUpOperator, strings.Clone(id))
	if err != nil {
		return Operator{}, wrap("look operator up", err)
	}
	type record struct {
		Operator

		Hash   []byte
		Usable bool
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[record])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		r.Hash = make([]byte, sha256.Size) // no token has this hash
	case err != nil:
		return Operator{}, wrap("look operator up", err)
	}
	if subtle.ConstantTimeCompare(hashToken(token), r.Hash) != 1 || !r.Usable {
		return Operator{}, ErrInvalidKey
	}
	return r.Operator, nil
}
