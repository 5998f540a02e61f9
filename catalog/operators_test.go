package catalog_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
)

func TestOperators(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	later := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	ann, token, err := b.cat.CreateOperator(ctx, "ann@example.com", catalog.RoleOwner, &later)
	b.ok(err)
	if !regexp.MustCompile(`^fho_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}$`).MatchString(token) {
		t.Error("the token has another shape")
	}
	if token[4:16] != ann.ID || !ann.ExpiresAt.Equal(later) || ann.RevokedAt != nil || ann.RotatedAt != nil {
		t.Errorf("made %+v", ann)
	}
	refused := func(token string) {
		t.Helper()
		_, err := b.cat.AuthenticateOperator(ctx, token)
		b.is(err, catalog.ErrInvalidKey)
		if strings.Contains(err.Error(), "fho_") {
			t.Errorf("%v tells more", err)
		}
	}
	allowed := func(token, name string) {
		t.Helper()
		if o, err := b.cat.AuthenticateOperator(ctx, token); err != nil || o.Name != name {
			t.Errorf("authenticated %q, want %q: %v", o.Name, name, err)
		}
	}
	allowed(token, "ann@example.com")
	_, key := b.key(b.tenant("acme").ID, "all")
	stranger := "fho_" + strings.Repeat("0", 12) + "_" + strings.Repeat("a", 43)
	swapped := token[:59] + "x"
	if token[59] == 'x' {
		swapped = token[:59] + "y"
	}
	for _, wrong := range []string{
		"", "x", token[:len(token)-1], token + "x", strings.ToUpper(token), key, "fh_" + token[4:],
		stranger + crc62(stranger), // well-formed, and nobody's
		swapped[:60] + crc62(swapped[:60]),
		token[:17] + strings.Repeat("a", 43) + crc62(token[:17]+strings.Repeat("a", 43)), // ann's, with another secret
	} {
		refused(wrong)
	}
	for _, bad := range [][2]string{{"", "owner"}, {"Ann", "owner"}, {"ann", "king"}, {"ann", ""}, {catalog.HolderName, "owner"}} {
		_, _, err := b.cat.CreateOperator(ctx, bad[0], bad[1], nil)
		b.is(err, catalog.ErrInvalid)
	}
	past := time.Now().Add(-time.Second)
	_, _, err = b.cat.CreateOperator(ctx, "bob", catalog.RoleViewer, &past)
	b.is(err, catalog.ErrInvalid)
	_, _, err = b.cat.CreateOperator(ctx, "ann@example.com", catalog.RoleViewer, nil)
	b.is(err, catalog.ErrExists)
	allowed(token, "ann@example.com")

	rotated, second, err := b.cat.RotateOperator(ctx, "ann@example.com")
	b.ok(err)
	if rotated.RotatedAt == nil || !rotated.CreatedAt.Equal(ann.CreatedAt) || rotated.ExpiresAt.Before(later) {
		t.Errorf("rotated %+v", rotated)
	}
	refused(token)
	allowed(second, "ann@example.com")
	_, _, err = b.cat.RotateOperator(ctx, "nobody")
	b.is(err, catalog.ErrNotFound)

	gone, err := b.cat.RevokeOperator(ctx, "ann@example.com")
	b.ok(err)
	again, err := b.cat.RevokeOperator(ctx, "ann@example.com")
	b.ok(err)
	if gone.RevokedAt == nil || !again.RevokedAt.Equal(*gone.RevokedAt) {
		t.Errorf("revoked at %v, then at %v", gone.RevokedAt, again.RevokedAt)
	}
	refused(second)
	_, err = b.cat.RevokeOperator(ctx, "nobody")
	b.is(err, catalog.ErrNotFound)
	_, _, err = b.cat.RotateOperator(ctx, "ann@example.com")
	b.is(err, catalog.ErrConflict)
	// She comes back, with less.
	_, third, err := b.cat.CreateOperator(ctx, "ann@example.com", catalog.RoleViewer, nil)
	b.ok(err)
	refused(second)
	allowed(third, "ann@example.com")
	list, err := b.cat.Operators(ctx)
	if err != nil || len(list) != 1 || list[0].Role != catalog.RoleViewer || list[0].RevokedAt != nil {
		t.Errorf("listed %+v: %v", list, err)
	}
}

func TestOperators_expire(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	later := time.Now().Add(time.Hour)
	_, token, err := b.cat.CreateOperator(ctx, "ann", catalog.RoleOwner, &later)
	b.ok(err)
	b.exec(b.admin(), `update operators set expires_at = now() - interval '1 s', created_at = now() - interval '1 h 1 s'`)
	_, err = b.cat.AuthenticateOperator(ctx, token)
	b.is(err, catalog.ErrInvalidKey)
	// A rotated one holds for as long again.
	o, token, err := b.cat.RotateOperator(ctx, "ann")
	b.ok(err)
	if left := time.Until(*o.ExpiresAt); left < 55*time.Minute || left > 65*time.Minute {
		t.Errorf("holds for %s, want an hour", left)
	}
	_, err = b.cat.AuthenticateOperator(ctx, token)
	b.ok(err)
}

// A mistyped token costs no look-up: it is refused with no catalog there.
func TestOperators_checksumFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, token, err := b.cat.CreateOperator(t.Context(), "ann", catalog.RoleOwner, nil)
	b.ok(err)
	b.cat.Close()
	_, err = b.cat.AuthenticateOperator(t.Context(), token)
	b.is(err, catalog.ErrUnavailable)
	_, err = b.cat.AuthenticateOperator(t.Context(), token[:20]+"_"+token[21:])
	b.is(err, catalog.ErrInvalidKey)
}
