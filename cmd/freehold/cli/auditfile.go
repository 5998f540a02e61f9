package cli

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

// tenantExport begins an export of a tenant's audit, and no other.
const tenantExport = `{"freehold_audit":`

func (e *env) verifyFile(a auditChoice) error {
	trusted, err := readPublicKeys(a.keys)
	if err != nil {
		return err
	}
	in := e.stdin
	if a.file != "-" {
		file, err := os.Open(filepath.Clean(a.file))
		if err != nil {
			return fmt.Errorf("verify audit: %w", err)
		}
		defer file.Close()
		in = file
	}
	lines := bufio.NewReader(in)
	begin, err := lines.Peek(len(tenantExport))
	if err != nil && err != io.EOF { //nolint:errorlint // Peek returns it as it is
		return fmt.Errorf("verify audit: %w", err)
	}
	// Whoever names keys expects signatures: the operators' chain has none.
	if !bytes.Equal(begin, []byte(tenantExport)) && len(trusted) == 0 {
		check, err := catalog.VerifyAuditFile(lines)
		if err != nil {
			return err
		}
		return e.showCheck(check)
	}
	check, err := tenantdb.VerifyAuditFile(lines, trusted)
	if err != nil {
		return err
	}
	return e.showFile(check)
}

// readPublicKeys reads keys in hex, or files with one a line.
func readPublicKeys(list []string) (keys []ed25519.PublicKey, err error) {
	for _, text := range list {
		if key, ok := publicKey(text); ok {
			keys = append(keys, key)
			continue
		}
		file, err := os.ReadFile(filepath.Clean(text))
		if err != nil {
			return nil, fmt.Errorf("%w: --public-key: neither %d digits of hex nor a file that can be read", errUsage, 2*ed25519.PublicKeySize)
		}
		found := false
		for _, word := range strings.Fields(string(file)) {
			key, ok := publicKey(word)
			if !ok {
				return nil, fmt.Errorf("%w: --public-key: the file holds something else than keys of %d digits of hex", errUsage, 2*ed25519.PublicKeySize)
			}
			keys, found = append(keys, key), true
		}
		if !found {
			return nil, fmt.Errorf("%w: --public-key: the file is empty", errUsage)
		}
	}
	return keys, nil
}

func publicKey(text string) (ed25519.PublicKey, bool) {
	key, err := hex.DecodeString(text)
	return key, err == nil && len(key) == ed25519.PublicKeySize
}

// auditTable is what all reports of a tenant's audit show.
func auditTable(tenant string, check tenantdb.AuditCheck, public map[int64]string) table {
	t := table{rows: [][]string{
		{"tenant", tenant},
		{"rows", strconv.FormatInt(check.Rows, 10)},
		{"seals", strconv.FormatInt(check.N, 10)},
		{"head", check.Head},
	}}
	if check.SealedAt != nil {
		t.add("sealed", moment(*check.SealedAt))
	}
	if check.Unsealed > 0 {
		t.add("not sealed yet", fmt.Sprintf("%d rows, since %s", check.Unsealed, momentOr(check.OldestUnsealed, "-")))
	}
	if p := check.Payloads; p != nil {
		t.add("payloads", fmt.Sprintf("%d as they were hashed, %d gone", p.Same, p.Gone))
	}
	for _, id := range slices.Sorted(maps.Keys(public)) {
		if slices.Contains(check.Keys, id) || len(check.Keys) == 0 {
			t.add("public key", public[id])
		}
	}
	if !check.OK {
		if check.BadSeal > 0 {
			t.add("bad seal", strconv.FormatInt(check.BadSeal, 10))
		}
		if check.BadRow != "" {
			t.add("bad row", check.BadRow)
		}
		t.add("why", check.Why)
	}
	return t
}

func (e *env) showReport(r fleet.AuditReport) error {
	t := auditTable(r.Slug, r.AuditCheck, r.PublicKeys)
	if r.Anchor != "" {
		t.add("anchor", fmt.Sprintf("%s, seal %d", r.Anchor, r.Anchored))
	}
	for _, restored := range r.Restores {
		t.add("restored", restored.String())
	}
	return e.verdict(r, t, r.OK)
}

func (e *env) showFile(check tenantdb.AuditFileCheck) error {
	t := auditTable(check.Tenant, check.AuditCheck, check.PublicKeys)
	if !check.ExportedAt.IsZero() {
		t.add("exported", moment(check.ExportedAt))
	}
	if check.Trusted {
		t.add("keys", "as given")
	} else {
		t.add("keys", "the file's own: compare them with what audit verify SLUG prints")
	}
	return e.verdict(check, t, check.OK)
}
