package fleet

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/blob"
)

const (
	// anchorPrefix is where audits' heads lie in the platform's part of the store, an
	// object for each hour (UTC) in which something was sealed.
	anchorPrefix = "audit-heads/"
	anchorHour   = "2006-01-02T15"
	anchorMonth  = "2006-01"
	anchorSuffix = ".json"

	// anchorTime bounds an anchoring. maxAnchor bounds an object that is read, and
	// anchorMonths and anchorTries how far back the newest one is looked for.
	anchorTime   = 5 * time.Minute
	maxAnchor    = 256 << 20
	anchorMonths = 24
	anchorTries  = 100

	anchorVersion = 1
)

// anchor is an object of heads: Document is signed as it stands.
type anchor struct {
	Document  string `json:"document"`
	KeyID     int64  `json:"key_id"`
	Signature []byte `json:"signature"`
}

func (a *anchor) message() []byte { return []byte("freehold audit heads v1\n" + a.Document) }

// anchored is an anchor's document.
type anchored struct {
	Version int            `json:"freehold_audit_heads"`
	Catalog string         `json:"catalog"`
	At      time.Time      `json:"at"`
	Heads   []anchoredHead `json:"heads"` // in the order of tenants
}

type anchoredHead struct {
	Tenant   string    `json:"tenant"`
	N        int64     `json:"n"`
	Head     string    `json:"head"`
	SealedAt time.Time `json:"sealed_at"`
}

func (h anchoredHead) is(o anchoredHead) bool {
	return h.Tenant == o.Tenant && h.N == o.N && h.Head == o.Head && h.SealedAt.Equal(o.SealedAt)
}

func (a *anchored) head(tenant string) (anchoredHead, bool) {
	for _, h := range a.Heads {
		if h.Tenant == tenant {
			return h, true
		}
	}
	return anchoredHead{}, false
}

// AnchorAudits writes where each tenant's audit ends into the object store: signed,
// one object for all, and only when something was sealed since the last. So that
// whoever changes the catalog too leaves a trace, what was anchored stands above a
// lower number in the catalog, unless that was noted later, by a restore. ErrStore.
func (f *Fleet) AnchorAudits(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, anchorTime)
	defer cancel()
	if err := f.anchorAudits(ctx); err != nil {
		return fmt.Errorf("anchor audits: %w", err)
	}
	return nil
}

func (f *Fleet) anchorAudits(ctx context.Context) error {
	if f.blob == nil {
		return ErrStore
	}
	ours, err := f.cat.CatalogID(ctx)
	if err != nil {
		return err
	}
	last, _, err := f.newestAnchor(ctx, ours)
	if err != nil {
		return err
	}
	heads, err := f.cat.AuditHeads(ctx)
	if err != nil {
		return err
	}
	next := anchored{Version: anchorVersion, Catalog: ours, At: time.Now().UTC().Truncate(time.Second), Heads: []anchoredHead{}}
	for _, h := range heads {
		next.Heads = append(next.Heads, anchoredHead{h.Tenant.String(), h.N, hex.EncodeToString(h.Head), h.SealedAt.UTC()})
	}
	if err := f.carryOn(ctx, last, &next); err != nil {
		return err
	}
	if slices.EqualFunc(next.Heads, last.Heads, anchoredHead.is) {
		return nil
	}
	return f.putAnchor(ctx, next)
}

// carryOn takes from the last anchor what the catalog knows less of.
func (f *Fleet) carryOn(ctx context.Context, last anchored, next *anchored) error {
	for _, was := range last.Heads {
		i, found := slices.BinarySearchFunc(next.Heads, was.Tenant, func(h anchoredHead, id string) int { return strings.Compare(h.Tenant, id) })
		switch {
		case found:
			now := next.Heads[i]
			if now.N > was.N || now.is(was) || now.SealedAt.After(was.SealedAt) {
				continue
			}
			next.Heads[i] = was
		default:
			id, err := catalog.ParseTenantID(was.Tenant)
			if err != nil {
				continue
			}
			switch t, err := f.cat.Tenant(ctx, id); {
			case errors.Is(err, catalog.ErrNotFound), err == nil && t.State == catalog.Deleted:
				continue
			case err != nil:
				return err
			}
			next.Heads = slices.Insert(next.Heads, i, was)
		}
		f.log.ErrorContext(ctx, "the catalog knows less of an audit than the object store: verify it", "tenant", was.Tenant, "anchored", was.N)
	}
	return nil
}

func (f *Fleet) putAnchor(ctx context.Context, doc anchored) error {
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	a := anchor{Document: string(text)}
	if a.Signature, a.KeyID, err = f.cat.SignAudit(a.message()); err != nil {
		return err
	}
	object, err := json.Marshal(a)
	if err != nil {
		return err
	}
	key := anchorPrefix + doc.At.Format(anchorHour) + anchorSuffix
	return storeError(ctx, f.blob.Platform().Put(ctx, key, bytes.NewReader(append(object, '\n'))))
}

// newestAnchor reads the newest one of this catalog's, and its key. With none the
// zero one: what isn't signed with a key of ours is passed over. ErrStore.
func (f *Fleet) newestAnchor(ctx context.Context, ours string) (doc anchored, key string, err error) {
	month, tries := time.Now().UTC(), 0
	month = time.Date(month.Year(), month.Month(), 1, 0, 0, 0, 0, time.UTC)
	for range anchorMonths {
		keys, err := f.anchorKeys(ctx, anchorPrefix+month.Format(anchorMonth))
		if err != nil {
			return doc, "", err
		}
		for _, key := range slices.Backward(keys) {
			doc, ok, err := f.readAnchor(ctx, key)
			if err != nil {
				return anchored{}, "", err
			}
			if ok && doc.Catalog == ours {
				return doc, platformPrefix + key, nil
			}
			if tries++; tries == anchorTries {
				return anchored{}, "", nil
			}
		}
		month = month.AddDate(0, -1, 0)
	}
	return anchored{}, "", nil
}

// anchorKeys lists the keys that begin so, the oldest first.
func (f *Fleet) anchorKeys(ctx context.Context, prefix string) (keys []string, err error) {
	err = f.blob.Platform().List(ctx, prefix, func(o blob.Object) error {
		keys = append(keys, o.Key)
		return nil
	})
	slices.Sort(keys)
	return keys, storeError(ctx, err)
}

// readAnchor reads one; ok is false for what we haven't signed.
func (f *Fleet) readAnchor(ctx context.Context, key string) (doc anchored, ok bool, err error) {
	object, _, err := f.blob.Platform().Get(ctx, key)
	switch {
	case errors.Is(err, blob.ErrNotFound): // removed meanwhile
		return doc, false, nil
	case err != nil:
		return doc, false, storeError(ctx, err)
	}
	defer object.Close()
	text, err := io.ReadAll(io.LimitReader(object, maxAnchor))
	if err != nil {
		return doc, false, storeError(ctx, err)
	}
	var a anchor
	if json.Unmarshal(text, &a) != nil || f.cat.VerifyAuditSignature(a.KeyID, a.message(), a.Signature) != nil ||
		json.Unmarshal([]byte(a.Document), &doc) != nil || doc.Version != anchorVersion {
		f.log.WarnContext(ctx, "not an object of audits' heads that this platform signed", "key", platformPrefix+key)
		return anchored{}, false, nil
	}
	return doc, true, nil
}
