package api

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb"
)

// Audits is what the door verifies tenants' audits by. All functions are required.
type Audits struct {
	// Head is what was noted of a tenant's audit outside of its database, last and as
	// proven: catalog.AuditHead.
	Head func(ctx context.Context, id catalog.TenantID) (noted, proven catalog.AuditHead, err error)
	// Verify checks a seal's signature: catalog.VerifyAuditSignature.
	Verify func(keyID int64, msg, sig []byte) error
	// PublicKeys are the keys of that: catalog.AuditPublicKeys.
	PublicKeys func() (map[int64]ed25519.PublicKey, error)
}

func (a Audits) missing() bool { return a.Head == nil || a.Verify == nil || a.PublicKeys == nil }

const (
	// verifyTime bounds a verification: a long audit is read back in minutes. It is
	// the time of the whole; the database is borrowed for a page at a time.
	verifyTime = 10 * time.Minute
	// verifications is how many run on a node at a time, of all tenants.
	verifications = 2
)

// auditEntry is a row of the audit, as the tenant sees it.
type auditEntry struct {
	ID          string          `json:"id"`     // audit_<uuid>
	Object      string          `json:"object"` // audit_entry
	CreatedAt   int64           `json:"created_at"`
	Actor       string          `json:"actor" doc:"key:<id>, operator:<name> or system"`
	Action      string          `json:"action"`
	Subject     string          `json:"subject" doc:"What it was done to: pred_<uuid> for a prediction."`
	RequestID   string          `json:"request_id"`
	Detail      json.RawMessage `json:"detail"`
	PayloadHash *string         `json:"payload_hash" doc:"sha256, in hex, of salt, input, a zero byte and output."`
	Seal        *int64          `json:"seal" doc:"Null until it is sealed, within a second."`
	Position    *int32          `json:"position" doc:"Its place in the seal."`
}

const auditPrefix = "audit_"

func showAudit(r tenantdb.AuditRow) auditEntry {
	e := auditEntry{
		ID: auditPrefix + r.ID.String(), Object: "audit_entry", CreatedAt: r.At.Unix(), Actor: r.Actor, Action: r.Action,
		Subject: r.Subject, RequestID: r.RequestID, Detail: r.Detail, Seal: r.Seal, Position: r.Pos,
	}
	if r.PayloadHash != nil {
		hash := hex.EncodeToString(r.PayloadHash)
		e.PayloadHash = &hash
	}
	return e
}

func (s *server) auditRows(ctx context.Context, who caller, r *rest.Request) (page rest.List[auditEntry], err error) {
	limit, from, err := r.Page(20, 100)
	if err != nil {
		return page, err
	}
	var after uuid.UUID
	if from != "" {
		bare, ok := strings.CutPrefix(from, auditPrefix)
		if after, err = uuid.Parse(bare); !ok || err != nil || after.String() != bare {
			return page, rest.Bad("after", "Not the id of an audit entry.")
		}
	}
	action := r.Query("action")
	if strings.ContainsRune(action, 0) {
		return page, rest.Bad("action", "Not an action.")
	}
	var rows []tenantdb.AuditRow
	err = who.tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		rows, err = db.AuditRows(ctx, action, after, limit+1)
		return err
	})
	if err != nil {
		return page, err
	}
	list := make([]auditEntry, len(rows))
	for i, row := range rows {
		list[i] = showAudit(row)
	}
	return rest.Page(list, limit, func(e auditEntry) string { return e.ID }), nil
}

// auditReport is what verifying has shown.
type auditReport struct {
	Object string `json:"object"` // audit_verification
	tenantdb.AuditCheck

	PublicKeys map[int64]string `json:"public_keys" doc:"In hex, by id: note them, and an export can be verified without this platform."`
}

func (s *server) verifyAudit(ctx context.Context, who caller, r *rest.Request) (*auditReport, error) {
	payloads := false
	if text := r.Query("payloads"); text != "" {
		var err error
		if payloads, err = strconv.ParseBool(text); err != nil {
			return nil, rest.Bad("payloads", "payloads must be true or false.")
		}
	}
	select {
	case s.verifying <- struct{}{}:
		defer func() { <-s.verifying }()
	default:
		return nil, &rest.Error{
			Status: http.StatusTooManyRequests, Code: "rate_limit_exceeded", Type: "requests", RetryAfter: 5 * time.Second,
			Message: "Other audits are being verified: try again in a moment.",
		}
	}
	keys, err := s.audits.PublicKeys()
	if err != nil {
		return nil, err
	}
	// What was noted is read before the chain, which only grows.
	noted, proven, err := s.audits.Head(ctx, who.Tenant)
	if err != nil {
		return nil, err
	}
	report := &auditReport{Object: "audit_verification", PublicKeys: map[int64]string{}}
	for id, key := range keys {
		report.PublicKeys[id] = hex.EncodeToString(key)
	}
	lend := func(ctx context.Context, fn func(context.Context, *tenantdb.DB) error) error {
		return who.tenant.Borrow(ctx, tenantdb.Interactive, fn)
	}
	report.AuditCheck, err = tenantdb.VerifyAudit(ctx, lend, tenantdb.AuditVerify{
		Tenant: who.Tenant, Verify: s.audits.Verify, Noted: []catalog.AuditHead{noted, proven}, Payloads: payloads,
	})
	if err != nil {
		return nil, err
	}
	return report, nil
}
