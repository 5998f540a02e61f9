package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/blob"
)

// backupTime bounds a backup, its reading back included.
const backupTime = 20 * time.Minute

// KeepCatalogBackups is BackupCatalog as periodic work: a catalog that is empty, or
// that is being restored, has nothing to be kept, which is no error.
func (f *Fleet) KeepCatalogBackups(ctx context.Context) error {
	_, err := f.BackupCatalog(ctx)
	if errors.Is(err, catalog.ErrConflict) {
		return nil
	}
	return err
}

// BackupCatalog writes a backup of the catalog to the object store, sealed with the
// master key and true as of one moment, reads it back whole, and removes backups
// that are no longer kept. Killed at any step it leaves at most an object that the
// next backup records. ErrConflict for a catalog that is empty or whose restore
// isn't at its end, ErrStore.
func (f *Fleet) BackupCatalog(ctx context.Context) (catalog.Backup, error) {
	ctx, cancel := context.WithTimeout(ctx, backupTime)
	defer cancel()
	b, err := f.backupCatalog(ctx)
	if err != nil {
		return b, fmt.Errorf("back up catalog: %w", err)
	}
	f.log.InfoContext(ctx, "catalog backed up", "key", b.Key, "bytes", b.Bytes, "seq", b.Seq)
	// The backup stands, whatever becomes of the old ones.
	if err := f.expireBackups(ctx, b.MadeAt); err != nil {
		f.log.WarnContext(ctx, "old backups of the catalog not removed", "reason", reason(ctx, err))
	}
	return b, nil
}

func (f *Fleet) backupCatalog(ctx context.Context) (b catalog.Backup, err error) {
	if f.blob == nil {
		return b, ErrStore
	}
	switch from, err := f.cat.Restoring(ctx); {
	case err == nil:
		return b, fmt.Errorf("it is being restored from %s: %w", from, catalog.ErrConflict)
	case !errors.Is(err, catalog.ErrNotFound):
		return b, err
	}
	snapshot, err := f.cat.Snapshot(ctx)
	if err != nil {
		return b, err
	}
	defer snapshot.Close(ctx)
	if snapshot.Servers == 0 && snapshot.Tenants == 0 {
		// As the newest it would hide the backup that whoever restores looks for.
		return b, fmt.Errorf("it is empty: %w", catalog.ErrConflict)
	}
	b = catalog.Backup{Key: backupKey(snapshot.At, snapshot.Seq), Seq: snapshot.Seq, MadeAt: snapshot.At}
	if b.Bytes, err = f.writeBackup(ctx, b.Key, snapshot); err != nil {
		return b, err
	}
	read, err := f.readBackup(ctx, b.Key, catalog.CheckDump)
	if err == nil && read != snapshot.DumpHeader {
		err = errors.New("what was read back is another one")
	}
	if err != nil {
		return b, fmt.Errorf("read %s back: %w", b.Key, err)
	}
	return b, f.cat.AddBackup(ctx, b)
}

// writeBackup streams the snapshot into an object. Nothing of it is there unless
// all is.
func (f *Fleet) writeBackup(ctx context.Context, key string, s *catalog.Snapshot) (int64, error) {
	return putStream(ctx, f.blob.Platform(), strings.TrimPrefix(key, platformPrefix), func(ctx context.Context, w io.Writer) error {
		return f.sealDump(ctx, w, key, s)
	})
}

// putStream streams what write writes into an object, and tells its bytes. Nothing of
// it is there unless all is. write's context ends when the store has given up.
func putStream(ctx context.Context, objects *blob.Objects, key string, write func(context.Context, io.Writer) error) (int64, error) {
	writing, cancel := context.WithCancel(ctx)
	defer cancel()
	out, in := io.Pipe()
	counted := &countingWriter{w: in}
	done := make(chan error, 1)
	go func() {
		err := write(writing, counted)
		in.CloseWithError(err) // nil ends the object
		done <- err
	}()
	err := objects.Put(ctx, key, out)
	out.CloseWithError(io.ErrClosedPipe) // the store may have given up before the end
	gaveUp := writing.Err() == nil
	cancel()
	written := <-done
	gaveUp = gaveUp && (errors.Is(written, io.ErrClosedPipe) || errors.Is(written, context.Canceled))
	switch {
	case written != nil && !gaveUp:
		return 0, written
	case err != nil:
		return 0, storeError(ctx, err)
	case written != nil:
		return 0, ErrStore // it said that all was stored, before all was sent
	}
	return counted.n, nil
}

func (f *Fleet) sealDump(ctx context.Context, w io.Writer, key string, s *catalog.Snapshot) error {
	sealed, err := f.cat.SealStream(w, backupAAD(key))
	if err != nil {
		return err
	}
	if err := s.Dump(ctx, sealed); err != nil {
		return err
	}
	return sealed.Close()
}

// backupAAD binds a backup to its key, so that an old one under a new name is
// refused.
func backupAAD(key string) string { return "object:" + key }

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// readBackup has read read a backup's plain text. catalog.ErrNotFound,
// catalog.ErrSealBroken, ErrStore.
func (f *Fleet) readBackup(ctx context.Context, key string, read func(io.Reader) (catalog.DumpHeader, error)) (catalog.DumpHeader, error) {
	var none catalog.DumpHeader
	object, _, err := f.blob.Platform().Get(ctx, strings.TrimPrefix(key, platformPrefix))
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return none, catalog.ErrNotFound
	case errors.Is(err, blob.ErrKey):
		return none, fmt.Errorf("%w: key of a backup", catalog.ErrInvalid)
	case err != nil:
		return none, storeError(ctx, err)
	}
	defer object.Close()
	plain, err := f.cat.OpenStream(&storeReader{ctx, object}, backupAAD(key))
	if err != nil {
		return none, err
	}
	return read(plain)
}

// storeReader reads an object, and keeps of the store's errors what storeError does.
type storeReader struct {
	ctx context.Context
	r   io.Reader
}

func (s *storeReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = storeError(s.ctx, err)
	}
	return n, err
}
