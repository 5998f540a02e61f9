package tenantdb

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"freehold/catalog"
)

// AuditCheck is what reading an audit back has shown. Of what is wrong it tells the
// first: the chain is followed no further.
type AuditCheck struct {
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"`
	Rows int64  `json:"rows"`  // in seals that fit
	N    int64  `json:"seals"` // that fit, from the first on
	// Head is the chain's hash behind them, in hex, and Keys what they are signed with.
	Head     string     `json:"head"`
	SealedAt *time.Time `json:"sealed_at"`
	Keys     []int64    `json:"key_ids"`
	// BadSeal is the first that doesn't fit, BadRow the id of a row that is wrong by
	// itself.
	BadSeal int64  `json:"bad_seal,omitempty"`
	BadRow  string `json:"bad_row,omitempty"`
	// Rows that no seal holds yet can still be changed without a trace.
	Unsealed       int64      `json:"unsealed"`
	OldestUnsealed *time.Time `json:"oldest_unsealed,omitempty"`

	Payloads *PayloadCheck `json:"payloads,omitempty"` // nil: not looked at
}

// PayloadCheck is what comparing predictions with the hashes of their payloads has
// shown. What was erased, or never kept, has gone: it is no tampering.
type PayloadCheck struct {
	Same int64 `json:"same"`
	Gone int64 `json:"gone"`
}

// verifier checks a signature: catalog.ErrSignature, or catalog.ErrNotFound for a
// key that isn't known.
type verifier func(keyID int64, msg, sig []byte) error

// chain follows an audit from its first seal.
type chain struct {
	tenant catalog.TenantID
	verify verifier
	noted  []catalog.AuditHead // what was noted elsewhere of where it ended

	check AuditCheck
	head  []byte // behind the last seal that fits
	seal  AuditSeal
	hash  []byte // within seal
	pos   int32  // of its last row
	text  []byte
}

func newChain(tenant catalog.TenantID, verify verifier, noted []catalog.AuditHead) *chain {
	return &chain{tenant: tenant, verify: verify, noted: noted, head: noHash(), check: AuditCheck{OK: true, Keys: []int64{}}}
}

// fail ends the chain at a seal; row may be empty.
func (c *chain) fail(seal int64, row, why string) {
	if c.check.OK {
		c.check.OK, c.check.Why, c.check.BadSeal, c.check.BadRow = false, why, seal, row
	}
}

// begin takes the next seal; its rows follow. The error is of verifying alone.
func (c *chain) begin(s AuditSeal) error {
	switch last := c.check.N; {
	case s.N != last+1:
		c.fail(s.N, "", fmt.Sprintf("seal %d follows seal %d: seals between were removed, or it was inserted", s.N, last))
		return nil
	case !bytes.Equal(s.Prev, c.head):
		c.fail(s.N, "", fmt.Sprintf("seal %d does not bear the head of seal %d: one of them was replaced", s.N, last))
		return nil
	}
	err := c.verify(s.KeyID, s.message(c.tenant), s.Signature)
	switch {
	case errors.Is(err, catalog.ErrSignature):
		c.fail(s.N, "", fmt.Sprintf("the signature of seal %d does not fit: it was changed, or made without the key", s.N))
		return nil
	case errors.Is(err, catalog.ErrNotFound):
		c.fail(s.N, "", fmt.Sprintf("seal %d is signed with key %d, which is not known", s.N, s.KeyID))
		return nil
	case err != nil:
		return fmt.Errorf("seal %d: %w", s.N, err)
	}
	c.seal, c.hash, c.pos = s, c.head, 0
	return nil
}

// row takes the next row of the seal that has begun.
func (c *chain) row(pos int32, id string, canonical []byte) {
	if pos != c.pos+1 {
		c.fail(c.seal.N, id, fmt.Sprintf("in seal %d place %d follows place %d: rows were removed, inserted or moved", c.seal.N, pos, c.pos))
		return
	}
	c.pos, c.hash = pos, link(c.hash, canonical)
}

// end closes the seal that has begun.
func (c *chain) end() {
	s := c.seal
	switch {
	case !c.check.OK:
		return
	case c.pos != s.Rows:
		c.fail(s.N, "", fmt.Sprintf("seal %d was made over %d rows, and %d are there: rows were removed, inserted or moved", s.N, s.Rows, c.pos))
		return
	case !bytes.Equal(c.hash, s.Head):
		c.fail(s.N, "", fmt.Sprintf("the rows of seal %d are not those that it was made over: one was changed or replaced", s.N))
		return
	}
	for _, h := range c.noted {
		if h.N == s.N && !bytes.Equal(h.Head, s.Head) {
			c.fail(s.N, "", fmt.Sprintf("seal %d is not the one that was noted outside: the chain was replaced", s.N))
			return
		}
	}
	at := s.SealedAt
	c.check.N, c.check.Rows, c.check.SealedAt, c.head = s.N, c.check.Rows+int64(s.Rows), &at, s.Head
	if !slices.Contains(c.check.Keys, s.KeyID) {
		c.check.Keys = append(c.check.Keys, s.KeyID)
	}
}

// done is the answer when no seal follows.
func (c *chain) done() AuditCheck {
	for _, h := range c.noted {
		if h.N > c.check.N {
			c.fail(c.check.N+1, "", fmt.Sprintf("the chain ends with seal %d, and seal %d was noted outside: its end was removed", c.check.N, h.N))
		}
	}
	c.check.Head = hex.EncodeToString(c.head)
	return c.check
}
