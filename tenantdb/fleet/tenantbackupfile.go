package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"freehold/catalog"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet/replica"
)

// A tenant's backup is a sealed stream (catalog.SealStream), bound to its key, of
// frames: a kind in one byte, the length of what follows in four (big endian), and
// that. First the header, then the tenant's objects by pages, then zstd over what
// pg_dump writes in its custom format, cut anywhere, and last the end.
const (
	tenantBackupFormat = 1

	frameHeader  = 'H' // BackupHeader
	frameObjects = 'O' // []BackupObject
	frameDump    = 'D'
	frameEnd     = 'E' // backupEnd

	frameHead = 5
	// maxFrame is more than any frame has: a page of objects with the longest keys,
	// or the sums of a hundred thousand tables.
	maxFrame = 64 << 20
	// objectsPage is how many objects a frame names.
	objectsPage = 1000
)

// BackupHeader says what a tenant's backup is of.
type BackupHeader struct {
	Format        int       `json:"freehold_tenant"`
	Catalog       string    `json:"catalog"` // its id
	Tenant        string    `json:"tenant"`  // its id
	Slug          string    `json:"slug"`
	Name          string    `json:"name"`
	Plan          string    `json:"plan"`
	Region        string    `json:"region"`
	Server        string    `json:"server"`    // by name
	Operation     string    `json:"operation"` // that made it, and the backup's id
	Scheduled     bool      `json:"scheduled"`
	Schema        int64     `json:"schema"`
	Product       int64     `json:"product"`
	ServerVersion int       `json:"server_version"` // server_version_num
	Bytes         int64     `json:"bytes"`          // of the database, with its indexes
	MadeAt        time.Time `json:"made_at"`        // the moment that it is true as of
	AuditSeal     int64     `json:"audit_seal"`     // the last seal's number; 0: none
}

// BackupObject is an object that the tenant had, as the store listed it.
type BackupObject struct {
	Key  string `json:"key"` // under the tenant's prefix
	Size int64  `json:"size"`
	ETag string `json:"etag"`
}

// BackupTable is what a table held at the backup's moment.
type BackupTable struct {
	Table       string `json:"table"` // quoted, with its schema
	replica.Sum `json:"sum"`
}

// backupEnd says how much there was before it.
type backupEnd struct {
	Objects     int64         `json:"objects"`
	ObjectBytes int64         `json:"object_bytes"`
	DumpBytes   int64         `json:"dump_bytes"`
	DumpSHA256  string        `json:"dump_sha256"`
	Tables      []BackupTable `json:"tables"`
}

// notBackedUp are the parts of a tenant's prefix that no backup names: other copies
// of it, and what isn't in its database yet.
var notBackedUp = []string{backupsPrefix, "exports/", "spool/", blob.Marker}

func backedUp(key string) bool {
	for _, p := range notBackedUp {
		if strings.HasPrefix(key, p) {
			return false
		}
	}
	return true
}

// frames writes them.
type frames struct{ w io.Writer }

func (f frames) frame(kind byte, p []byte) error {
	var head [frameHead]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(p)))
	if _, err := f.w.Write(head[:]); err != nil {
		return err
	}
	_, err := f.w.Write(p)
	return err
}

func (f frames) json(kind byte, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > maxFrame {
		return fmt.Errorf("a part of %d bytes is too large for a backup", len(text))
	}
	return f.frame(kind, text)
}

// Write is a part of the dump.
func (f frames) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 1<<20)
		if err := f.frame(frameDump, rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// sealTenant writes a backup, sealed, and returns its end. Its memory doesn't grow
// with the tenant. sums are waited for when all else is written.
func (f *Fleet) sealTenant(ctx context.Context, w io.Writer, key string, s *tenantSnapshot, sums func() ([]BackupTable, error)) (backupEnd, error) {
	var end backupEnd
	sealed, err := f.cat.SealStream(w, backupAAD(key))
	if err != nil {
		return end, err
	}
	out := frames{sealed}
	if err := out.json(frameHeader, s.header); err != nil {
		return end, err
	}
	if err := f.listObjects(ctx, out, s.tenant.ID, &end); err != nil {
		return end, err
	}
	if err := s.dump(ctx, out, &end); err != nil {
		return end, err
	}
	if end.Tables, err = sums(); err != nil {
		return end, err
	}
	if err := out.json(frameEnd, end); err != nil {
		return end, err
	}
	return end, sealed.Close()
}

// listObjects writes which objects the tenant has, a page at a time.
func (f *Fleet) listObjects(ctx context.Context, out frames, id catalog.TenantID, end *backupEnd) error {
	page := make([]BackupObject, 0, objectsPage)
	var failed error // of out
	err := f.blob.Tenant(id).List(ctx, "", func(o blob.Object) error {
		if !backedUp(o.Key) {
			return nil
		}
		end.Objects++
		end.ObjectBytes += o.Size
		if page = append(page, BackupObject{o.Key, o.Size, o.ETag}); len(page) == objectsPage {
			failed = out.json(frameObjects, page)
			page = page[:0]
		}
		return failed
	})
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return storeError(ctx, err)
	case len(page) > 0:
		return out.json(frameObjects, page)
	}
	return nil
}

// dump writes what pg_dump tells of the snapshot.
func (s *tenantSnapshot) dump(ctx context.Context, out frames, end *backupEnd) error {
	// One at a time: no goroutines that would outlive a writer that fails. What is
	// sealed needs no other checksum.
	packed, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return err
	}
	plain := &summing{w: packed, sum: sha256.New()}
	if err := s.tools.Out(ctx, s.from, plain, "--snapshot="+s.id); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	end.DumpBytes, end.DumpSHA256 = plain.n, hex.EncodeToString(plain.sum.Sum(nil))
	return nil
}

// summing counts and sums what goes through it.
type summing struct {
	w   io.Writer
	sum hash.Hash
	n   int64
}

func (s *summing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	return n, err
}

// tenantBackupSuffix ends the keys of tenants' backups.
const tenantBackupSuffix = ".fhb"

// tenantBackupKey is a backup's key under the tenant's prefix.
func tenantBackupKey(at time.Time, operation string) string {
	return backupsPrefix + at.UTC().Format(backupMoment) + "-" + operation + tenantBackupSuffix
}

// parseTenantBackupKey reads which operation made it; false for a key that
// tenantBackupKey didn't make.
func parseTenantBackupKey(key string) (operation string, ok bool) {
	name, found := strings.CutPrefix(key, backupsPrefix)
	moment, operation, dashed := strings.Cut(strings.TrimSuffix(name, tenantBackupSuffix), "-")
	at, err := time.Parse(backupMoment, moment)
	return operation, found && dashed && err == nil && operation != "" && tenantBackupKey(at, operation) == key
}

// tenantPrefix is what a tenant's objects' whole keys begin with.
func tenantPrefix(id catalog.TenantID) string { return "tenants/" + id.String() + "/" }
