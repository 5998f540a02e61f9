package tenantdb_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb"
)

// signer is a key that is in no database.
type signer struct {
	key   ed25519.PrivateKey
	keyID int64
}

func newSigner(id int64) *signer {
	seed := sha256.Sum256([]byte{byte(id)})
	return &signer{ed25519.NewKeyFromSeed(seed[:]), id}
}

func (s *signer) sign(msg []byte) ([]byte, int64, error) {
	return ed25519.Sign(s.key, msg), s.keyID, nil
}

func (s *signer) verify(keyID int64, msg, sig []byte) error {
	switch {
	case keyID != s.keyID:
		return catalog.ErrNotFound
	case !ed25519.Verify(s.public(), msg, sig):
		return catalog.ErrSignature
	}
	return nil
}

func (s *signer) public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// audited is a tenant with an audit, and the key that signs it.
type audited struct {
	*bench
	*signer
	super *pgx.Conn // in the tenant's database
	head  catalog.AuditHead
}

func setupAudit(t testing.TB) *audited {
	t.Helper()
	a := &audited{bench: setup(t), signer: newSigner(7)}
	u, err := url.Parse(pgtest.SuperURL(a))
	a.ok(err)
	u.Path = "/" + a.at.Database
	a.super = a.connect(u.String())
	return a
}

// event adds a row.
func (a *audited) event(actor, action string, detail map[string]any) {
	a.Helper()
	a.ok(a.db.AddAuditEvent(a.Context(), actor, action, "it", detail))
}

// seal seals what there is, and notes the head.
func (a *audited) seal(want int) {
	a.Helper()
	head, n, err := a.db.Seal(a.Context(), a.id, a.sign)
	a.ok(err)
	if n != want || head.Tenant != a.id {
		a.Fatalf("sealed %d rows, want %d: %+v", n, want, head)
	}
	a.head = head
}

func (a *audited) verified(payloads bool) tenantdb.AuditCheck {
	a.Helper()
	check, err := a.db.VerifyAudit(a.Context(), tenantdb.AuditVerify{
		Tenant: a.id, Verify: a.verify, Noted: []catalog.AuditHead{a.head}, Payloads: payloads,
	})
	a.ok(err)
	return check
}

func (a *audited) exported() string {
	a.Helper()
	var b bytes.Buffer
	n, err := a.db.ExportAudit(a.Context(), tenantdb.AuditExport{
		Tenant: a.id, Sign: a.sign, PublicKeys: map[int64]ed25519.PublicKey{a.keyID: a.public()},
	}, &b)
	a.ok(err)
	if rows := strings.Count(b.String(), `"row":`) + strings.Count(b.String(), `{"unsealed":`); int64(rows) != n {
		a.Errorf("%d rows in %d lines", n, rows)
	}
	return b.String()
}

func (a *audited) file(text string, trusted ...ed25519.PublicKey) tenantdb.AuditFileCheck {
	a.Helper()
	check, err := tenantdb.VerifyAuditFile(strings.NewReader(text), trusted)
	a.ok(err)
	return check
}

// exec changes rows behind everybody's back.
func (a *audited) exec(sql string, args ...any) {
	a.Helper()
	_, err := a.super.Exec(a.Context(), sql, args...)
	a.ok(err)
}

// predicted settles a prediction and returns its id.
func (a *audited) predicted(output string) uuid.UUID {
	a.Helper()
	p := a.admitted()
	salt := []byte("salt of 16 bytes")
	h := sha256.New()
	h.Write(salt)
	h.Write(p.Input)
	h.Write([]byte{0})
	h.Write([]byte(output))
	if !a.bench.settle(tenantdb.Settlement{
		ID: p.ID, At: p.CreatedAt, RequestID: p.RequestID, APIKey: "key_1", Kind: "chat", Model: "m", State: "succeeded",
		Output: []byte(output), Salt: salt, PayloadHash: h.Sum(nil), PromptTokens: 3, CompletionTokens: 4,
		Detail: []byte(`{"kind":"chat",  "model":"m<&>"}`),
	}) {
		a.Fatal("not settled")
	}
	return p.ID
}

// told is an audit of three seals: 3, 2 and 1 rows, of all kinds.
func (a *audited) told() (prediction uuid.UUID) {
	a.Helper()
	prediction = a.predicted(`{"text": "hello"}`)
	a.goOn()
	return prediction
}

func (a *audited) goOn() {
	a.Helper()
	a.event("key:key_1", "prediction.erase", map[string]any{"n": 1, "what": "a\"b\\c\u2028\x01é<"})
	a.event("system", "retention", map[string]any{"rows": 12})
	a.seal(3)
	a.ok(tenantdb.On(a.owner, 10).AddOperatorActs(a.Context(), []catalog.OperatorAct{
		{Seq: 4, At: time.Now(), Actor: "ann", Action: "config.set", Detail: []byte(`{"names": ["pii_mode"]}`)},
		{Seq: 9, At: time.Now(), Actor: "bob", Action: "tenant.suspend", Detail: []byte(`{}`)},
	}))
	a.seal(2)
	a.event("system", "last", nil)
	a.seal(1)
}
