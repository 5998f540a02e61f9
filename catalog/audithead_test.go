package catalog_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
	"testing"
	"time"

	"freehold/catalog"
)

func head(t catalog.Tenant, n int64, fill byte) catalog.AuditHead {
	return catalog.AuditHead{Tenant: t.ID, N: n, Head: bytes.Repeat([]byte{fill}, 32), SealedAt: time.Now().UTC().Truncate(time.Microsecond)}
}

func TestAuditHeads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, globex := b.tenant("acme"), b.tenant("globex")
	is := func(what string, id catalog.TenantID, n int64, fill byte) {
		t.Helper()
		got, _, err := b.cat.AuditHead(t.Context(), id)
		b.ok(err)
		if got.Tenant != id || got.N != n || n > 0 && got.Head[31] != fill {
			t.Errorf("%s: %+v", what, got)
		}
	}
	is("none", acme.ID, 0, 0)
	set := func(heads ...catalog.AuditHead) { t.Helper(); b.ok(b.cat.SetAuditHeads(t.Context(), heads)) }
	set()
	stranger := head(acme, 1, 1)
	stranger.Tenant = catalog.NewTenantID()
	set(head(acme, 2, 2), head(globex, 5, 5), stranger)
	is("first", acme.ID, 2, 2)
	is("another's", globex.ID, 5, 5)
	is("of no tenant", stranger.Tenant, 0, 0)
	set(head(acme, 1, 1), head(globex, 5, 6))
	is("late", acme.ID, 2, 2)
	is("replaced", globex.ID, 5, 5)
	set(head(acme, 3, 3))
	is("next", acme.ID, 3, 3)

	list, err := b.cat.AuditHeads(t.Context())
	b.ok(err)
	if len(list) != 2 || list[0].Tenant != acme.ID || list[1].N != 5 {
		t.Errorf("all: %+v", list)
	}

	// A restore goes back, and says so where operators' acts stand.
	b.ok(b.cat.RewindAuditHead(t.Context(), "ann", head(acme, 1, 1)))
	is("restored", acme.ID, 1, 1)
	b.ok(b.cat.RewindAuditHead(t.Context(), "ann", catalog.AuditHead{Tenant: globex.ID}))
	is("restored to none", globex.ID, 0, 0)
	acts, err := b.cat.OperatorActs(t.Context(), acme.ID, 0, 10)
	b.ok(err)
	if len(acts) != 1 || acts[0].Action != "audit.rewind" || !bytes.Contains(acts[0].Detail, []byte(`"was_n": 3`)) {
		t.Errorf("%+v", acts)
	}
}

func TestOperatorActs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.acts() // rows 1 to 4 are acme's
	other := b.tenant("globex")
	b.ok(b.cat.AppendAudit(t.Context(), "ann", "act.9", other.ID, nil))
	b.ok(b.cat.AppendAudit(t.Context(), "ann", "act.8", acme.ID, nil))
	for _, tc := range []struct {
		after int64
		limit int
		want  string
	}{
		{0, 10, "[1 2 3 4 8]"}, {2, 10, "[3 4 8]"}, {0, 2, "[1 2]"}, {8, 10, "[]"},
	} {
		acts, err := b.cat.OperatorActs(t.Context(), acme.ID, tc.after, tc.limit)
		b.ok(err)
		seqs := []int64{}
		for _, a := range acts {
			seqs = append(seqs, a.Seq)
		}
		if got := fmt.Sprint(seqs); got != tc.want {
			t.Errorf("after %d: %s, want %s", tc.after, got, tc.want)
		}
	}
}

// A signature for one use is none for the other.
func TestSignAudit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	msg := []byte("freehold")
	sig, keyID, err := b.cat.SignAudit(msg)
	b.ok(err)
	b.ok(b.cat.VerifyAuditSignature(keyID, msg, sig))
	b.is(b.cat.VerifyAuditSignature(keyID, []byte("freehole"), sig), catalog.ErrSignature)
	b.is(b.cat.VerifyAuditSignature(keyID+1, msg, sig), catalog.ErrNotFound)
	b.is(b.cat.VerifySignature(keyID, msg, sig), catalog.ErrSignature)
	receipt, _, err := b.cat.Sign(msg)
	b.ok(err)
	b.is(b.cat.VerifyAuditSignature(keyID, msg, receipt), catalog.ErrSignature)
	b.ok(b.cat.VerifySignature(keyID, msg, receipt))
	keys, err := b.cat.AuditPublicKeys()
	b.ok(err)
	other, err := b.cat.PublicKey(keyID)
	b.ok(err)
	if key := keys[keyID]; !ed25519.Verify(key, msg, sig) || len(keys) != 1 || slices.Equal(key, other) {
		t.Errorf("keys %v", keys)
	}
}
