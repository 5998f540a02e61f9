package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"freehold/catalog"
	"freehold/tenantdb/blob"
)

// backupReader reads a tenant's backup, from its beginning to its end.
type backupReader struct {
	Header  BackupHeader
	Objects []BackupObject // what the manifest names: all of it, in memory

	object io.Closer
	plain  io.Reader // of the sealed stream
	err    error     // of plain, but for its end

	kind byte   // of the frame that is being read
	left uint32 // of its bytes

	listed, listedBytes int64 // of the manifest
	packed              *zstd.Decoder
	sum                 hash.Hash
	dumped              int64
	end                 *backupEnd // once all was read
	failed              error      // what the reader keeps to
}

// openBackup opens the backup of a tenant by its whole key, and reads the header and
// the manifest. catalog.ErrNotFound, catalog.ErrSealBroken for one that isn't this
// tenant's and this catalog's or isn't whole as far as it was read,
// catalog.ErrConflict for a format that a newer release wrote, ErrStore. The caller
// closes it.
func (f *Fleet) openBackup(ctx context.Context, id catalog.TenantID, key string) (*backupReader, error) {
	var objects []BackupObject
	r, err := f.openBackupEach(ctx, id, key, func(page []BackupObject) { objects = append(objects, page...) })
	if err != nil {
		return nil, err
	}
	r.Objects = objects
	return r, nil
}

// openBackupEach is openBackup in constant memory: each gets the manifest by pages,
// which it may keep.
func (f *Fleet) openBackupEach(ctx context.Context, id catalog.TenantID, key string, each func([]BackupObject)) (_ *backupReader, err error) {
	if f.blob == nil {
		return nil, ErrStore
	}
	name, inside := strings.CutPrefix(key, tenantPrefix(id))
	if !inside || !strings.HasPrefix(name, backupsPrefix) {
		return nil, fmt.Errorf("backup: %w", catalog.ErrNotFound)
	}
	object, _, err := f.blob.Tenant(id).Get(ctx, name)
	switch {
	case errors.Is(err, blob.ErrNotFound), errors.Is(err, blob.ErrKey):
		return nil, fmt.Errorf("backup: its object is %w", catalog.ErrNotFound)
	case err != nil:
		return nil, storeError(ctx, err)
	}
	r := &backupReader{object: object, sum: sha256.New()}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if r.plain, err = f.cat.OpenStream(&storeReader{ctx, object}, backupAAD(key)); err != nil {
		return nil, err
	}
	if err := r.head(); err != nil {
		return nil, err
	}
	ours, err := f.cat.CatalogID(ctx)
	if err != nil {
		return nil, err
	}
	if r.Header.Tenant != id.String() || r.Header.Catalog != ours {
		return nil, fmt.Errorf("backup: %w", catalog.ErrSealBroken)
	}
	if err := r.manifest(each); err != nil {
		return nil, err
	}
	return r, nil
}

// Close ends the reading.
func (r *backupReader) Close() {
	if r.packed != nil {
		r.packed.Close()
	}
	_ = r.object.Close()
}

// broken is why nothing more can be read: what the source says, and else that it
// isn't what was written.
func (r *backupReader) broken() error {
	if r.err != nil {
		return r.err
	}
	return fmt.Errorf("backup: %w", catalog.ErrSealBroken)
}

// fill reads all of p, or fails.
func (r *backupReader) fill(p []byte) error {
	_, err := io.ReadFull(r.plain, p)
	if err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			r.err = err
		}
		return r.broken()
	}
	return nil
}

// next begins the next frame.
func (r *backupReader) next() error {
	var head [frameHead]byte
	if err := r.fill(head[:]); err != nil {
		return err
	}
	r.kind, r.left = head[0], binary.BigEndian.Uint32(head[1:])
	if r.left > maxFrame {
		return r.broken()
	}
	return nil
}

// json reads the frame that was begun.
func (r *backupReader) json(into any) error {
	text := make([]byte, r.left)
	if err := r.fill(text); err != nil {
		return err
	}
	r.left = 0
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(into); err != nil {
		return r.broken()
	}
	return nil
}

func (r *backupReader) head() error {
	if err := r.next(); err != nil {
		return err
	}
	if r.kind != frameHeader {
		return r.broken()
	}
	if err := r.json(&r.Header); err != nil {
		return err
	}
	if r.Header.Format > tenantBackupFormat {
		return fmt.Errorf("backup: a newer release wrote it: %w", catalog.ErrConflict)
	}
	return nil
}

// manifest reads the pages of objects, and begins the frame behind them.
func (r *backupReader) manifest(each func([]BackupObject)) error {
	for {
		if err := r.next(); err != nil {
			return err
		}
		if r.kind != frameObjects {
			return nil
		}
		var page []BackupObject
		if err := r.json(&page); err != nil {
			return err
		}
		for _, o := range page {
			r.listed++
			r.listedBytes += o.Size
		}
		each(page)
	}
}

// Dump is what pg_dump wrote. It ends in io.EOF when the whole backup was read and
// found whole, and else, for good, in catalog.ErrSealBroken or ErrStore.
func (r *backupReader) Dump() io.Reader { return (*dumpReader)(r) }

type dumpReader backupReader

func (d *dumpReader) Read(p []byte) (int, error) {
	r := (*backupReader)(d)
	if r.failed != nil {
		return 0, r.failed
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.packed == nil {
		// One at a time: no goroutines that somebody who forgets it leaves.
		packed, err := zstd.NewReader((*packedReader)(r), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			r.failed = r.broken()
			return 0, r.failed
		}
		r.packed = packed
	}
	n, err := r.packed.Read(p)
	r.sum.Write(p[:n])
	r.dumped += int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		if r.failed = r.finish(); r.failed == nil {
			r.failed = io.EOF
		}
	default:
		r.failed = r.broken()
	}
	if errors.Is(r.failed, io.EOF) {
		return n, io.EOF
	}
	return 0, r.failed
}

// packedReader is the frames of the dump, put together again.
type packedReader backupReader

func (d *packedReader) Read(p []byte) (int, error) {
	r := (*backupReader)(d)
	for r.left == 0 {
		if r.kind == frameEnd {
			return 0, io.EOF // an end has at least braces
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	switch r.kind {
	case frameDump:
	case frameEnd:
		return 0, io.EOF
	default:
		return 0, r.broken()
	}
	p = p[:min(len(p), int(r.left))]
	if err := r.fill(p); err != nil {
		return 0, err
	}
	r.left -= uint32(len(p))
	return len(p), nil
}

// finish reads the end, compares it with what came before, and finds nothing behind it.
func (r *backupReader) finish() error {
	if r.kind != frameEnd {
		return r.broken()
	}
	var end backupEnd
	if err := r.json(&end); err != nil {
		return err
	}
	if end.Objects != r.listed || end.ObjectBytes != r.listedBytes || end.DumpBytes != r.dumped ||
		end.DumpSHA256 != hex.EncodeToString(r.sum.Sum(nil)) {
		return r.broken()
	}
	var more [1]byte
	switch _, err := io.ReadFull(r.plain, more[:]); {
	case errors.Is(err, io.EOF):
		r.end = &end
		return nil
	case err != nil:
		r.err = err
	}
	return r.broken()
}

// Tables are what the tables held, once Dump has come to its end.
func (r *backupReader) Tables() ([]BackupTable, error) {
	if r.end == nil {
		return nil, errors.New("backup: it wasn't read to its end")
	}
	return r.end.Tables, nil
}

// checkBackup reads all of a backup without restoring it: what it returns is true of
// the whole. Errors are openBackup's.
func (f *Fleet) checkBackup(ctx context.Context, id catalog.TenantID, key string) (BackupHeader, []BackupTable, error) {
	r, err := f.openBackupEach(ctx, id, key, func([]BackupObject) {})
	if err != nil {
		return BackupHeader{}, nil, err
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r.Dump()); err != nil {
		return BackupHeader{}, nil, err
	}
	tables, err := r.Tables()
	return r.Header, tables, err
}
