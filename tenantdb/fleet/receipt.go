package fleet

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/blob"
)

// Receipt is what a deletion leaves: each copy that was destroyed, and each that
// Freehold can't reach. It holds no content and names nobody but by slug and id.
type Receipt struct {
	Tenant           string      `json:"tenant"`
	Slug             string      `json:"slug"`
	Server           string      `json:"server"`
	Operation        string      `json:"operation"`
	RequestedBy      string      `json:"requested_by"`
	RequestedAt      time.Time   `json:"requested_at"`
	DeletedAt        time.Time   `json:"deleted_at"`
	Destroyed        []Destroyed `json:"destroyed"`
	BeyondReach      []Remains   `json:"beyond_reach"`
	BucketVersioning string      `json:"bucket_versioning"`
	Bill             []BillLine  `json:"bill"`
	KeyID            int64       `json:"key_id"`
	PublicKey        []byte      `json:"public_key"` // Ed25519
}

// Remains is a copy that may still be somewhere.
type Remains struct {
	What  string     `json:"what"`
	Why   string     `json:"why"`
	Until *time.Time `json:"until,omitempty"` // nil: others decide
}

// BillLine is what was used of a model in a month (UTC).
type BillLine struct {
	Month string `json:"month"` // 2026-11
	catalog.Usage
}

// SignedReceipt is a receipt as it is handed out: who has the public key can verify
// it without this platform.
type SignedReceipt struct {
	catalog.Receipt
	PublicKey []byte `json:"public_key"`
}

// VerifyReceipt checks a document's signature and reads it. catalog.ErrSignature
// when it was changed, or signed with another key than public, or than it names.
func VerifyReceipt(document, signature []byte, public ed25519.PublicKey) (Receipt, error) {
	if len(public) != ed25519.PublicKeySize || !ed25519.Verify(public, document, signature) {
		return Receipt{}, fmt.Errorf("verify receipt: %w", catalog.ErrSignature)
	}
	var r Receipt
	if err := json.Unmarshal(document, &r); err != nil {
		return Receipt{}, errors.New("verify receipt: signed, and not a receipt")
	}
	// Or a platform's own words, signed by somebody else, would name that platform.
	if !public.Equal(ed25519.PublicKey(r.PublicKey)) {
		return Receipt{}, fmt.Errorf("verify receipt: it names another key than it was signed with: %w", catalog.ErrSignature)
	}
	return r, nil
}

// Receipt reads the receipt of a deleted tenant, by id or by the slug that it was
// the last to leave, verified. catalog.ErrNotFound, catalog.ErrSignature.
func (f *Fleet) Receipt(ctx context.Context, slugOrID string) (SignedReceipt, Receipt, error) {
	kept, err := f.cat.Receipt(ctx, slugOrID)
	if err != nil {
		return SignedReceipt{}, Receipt{}, err
	}
	public, err := f.cat.PublicKey(kept.KeyID)
	if err != nil {
		return SignedReceipt{}, Receipt{}, fmt.Errorf("read receipt: signing key: %w", err)
	}
	r, err := VerifyReceipt([]byte(kept.Document), kept.Signature, public)
	return SignedReceipt{kept, public}, r, err
}

// writeReceipt is the step: made once, from what the steps before it have noted.
func writeReceipt(ctx context.Context, a *act) error {
	_, err := a.cat.Receipt(ctx, a.tenant.ID.String())
	if err == nil || !errors.Is(err, catalog.ErrNotFound) {
		return err // a run before this one made it
	}
	if err := dropLate(ctx, a); err != nil {
		return err
	}
	r, err := a.receipt(ctx)
	if err != nil {
		return err
	}
	kept, err := a.sign(r)
	if err != nil {
		return err
	}
	return a.cat.SaveReceipt(ctx, kept)
}

// signTries is how often the key may change between two looks at it.
const signTries = 3

func (a *act) sign(r Receipt) (catalog.Receipt, error) {
	_, key, err := a.cat.Sign(nil) // which key it will be
	for range signTries {
		if err != nil {
			break
		}
		var public ed25519.PublicKey
		if public, err = a.cat.PublicKey(key); err != nil {
			break
		}
		r.KeyID, r.PublicKey = key, public
		var document, signature []byte
		if document, err = json.Marshal(r); err != nil {
			break
		}
		if signature, key, err = a.cat.Sign(document); err == nil && key == r.KeyID {
			return catalog.Receipt{Tenant: a.tenant.ID, Document: string(document), Signature: signature, KeyID: key}, nil
		}
	}
	if err == nil {
		err = errors.New("the master key changed meanwhile")
	}
	return catalog.Receipt{}, fmt.Errorf("sign receipt: %w", err)
}

func (a *act) receipt(ctx context.Context) (Receipt, error) {
	known, err := a.cat.Deletion(ctx, a.op.ID)
	if err != nil {
		return Receipt{}, err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	r := Receipt{
		Tenant: a.tenant.ID.String(), Slug: a.tenant.Slug, Server: a.tenant.Server, Operation: a.op.ID,
		RequestedBy: a.op.Actor, RequestedAt: a.op.CreatedAt.UTC(), DeletedAt: now, Bill: []BillLine{},
	}
	for _, what := range []string{
		whatSessions, whatDatabase, whatKept, whatRole, whatObjects, whatBackups, whatKeys, whatConfig, whatMail, whatSecret, whatPerson,
	} {
		var d Destroyed
		if err := json.Unmarshal(known.Notes[what], &d); err != nil || d.VerifiedAt.IsZero() {
			return Receipt{}, fmt.Errorf("nothing says that it was looked for: %s", what)
		}
		r.Destroyed = append(r.Destroyed, d)
	}
	if a.blob == nil {
		return Receipt{}, fmt.Errorf("%w: none is configured", ErrStore)
	}
	if r.BucketVersioning, err = a.blob.Versioning(ctx); err != nil {
		return Receipt{}, storeError(ctx, err)
	}
	if r.BeyondReach, err = a.remains(ctx, r.BucketVersioning); err != nil {
		return Receipt{}, err
	}
	months, err := a.cat.UsageByMonth(ctx, a.tenant.ID)
	for _, u := range months {
		r.Bill = append(r.Bill, BillLine{Month: u.Day.Format("2006-01"), Usage: u})
	}
	return r, err
}

// remains lists what a deletion can't reach.
func (a *act) remains(ctx context.Context, versioning string) ([]Remains, error) {
	list := []Remains{
		{What: "WAL archives and base backups of server " + a.tenant.Server,
			Why: "they hold all databases of the server, and whoever keeps them decides how long"},
		{What: "logs, and mail that was sent", Why: "they have left the platform; logs hold ids and no content, and mail" +
			" lies with its recipient, or, where no mail server is configured, in the data directory's mail/"},
	}
	switch versioning {
	case blob.VersioningEnabled, blob.VersioningSuspended:
		list = append(list, Remains{What: "older versions of its objects",
			Why: "the bucket's versioning is " + versioning + ": they stay until the bucket's own rules remove them"})
	case blob.VersioningUnknown:
		list = append(list, Remains{What: "older versions of its objects",
			Why: "the store doesn't tell whether the bucket keeps versions"})
	}
	newest, ever, err := a.cat.NewestBackup(ctx)
	if err != nil {
		return nil, err
	}
	if ever {
		// One that began before this tenant was erased may be recorded yet, and each
		// goes with the first backup behind its last day.
		until := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, keepDays+1)
		list = append(list, Remains{What: "backups of the catalog, the newest of " + newest.UTC().Format(time.RFC3339), Until: &until,
			Why: "they are sealed, hold its slug, name, address and hashes of its keys, and go as newer ones are made"})
	}
	return list, nil
}
