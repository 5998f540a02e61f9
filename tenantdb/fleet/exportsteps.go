package fleet

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/archive"
	"freehold/tenantdb/fleet/dump"
)

// exporting makes what a tenant takes along. Killed anywhere, it is written anew.
var exporting = []step{
	{"write", writeExport},
	{"done", endExport},
}

const (
	// exportTime bounds the writing of an export: what takes longer than this holds the
	// database's vacuum back for too long.
	exportTime = 8 * time.Hour
	// exportNote is how often it is noted how far the writing is.
	exportNote = 2 * time.Second
)

func writeExport(ctx context.Context, a *act) error {
	if a.blob == nil {
		return ErrStore
	}
	if a.tenant.State != catalog.Active && a.tenant.State != catalog.Suspended {
		return fmt.Errorf("the tenant is %s: %w", a.tenant.State, catalog.ErrConflict)
	}
	if err := a.cat.BeginExportWriting(ctx, a.op); err != nil {
		return err
	}
	key := exportKey(a.op.ID)
	// Who was killed at it has left parts.
	if err := a.blob.Tenant(a.tenant.ID).AbortUploads(ctx, key); err != nil {
		return a.exportFailed(ctx, storeError(ctx, err))
	}
	working, cancel := context.WithTimeout(ctx, exportTime)
	defer cancel()
	total, sum, err := a.putExport(working, key)
	if err != nil {
		return a.exportFailed(ctx, err)
	}
	a.at("write:stored")
	return a.cat.ExportWritten(ctx, a.op, sum, total)
}

// exportFailed notes for the tenant why, and returns the error.
func (a *act) exportFailed(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout) // also when ctx is over
	defer cancel()
	_ = a.cat.ExportFailed(ctx, a.op, exportSentence(err)) // the operation has it in any case
	return err
}

// exportSentence says to the tenant why an export failed: nothing of what the platform
// is made of.
func exportSentence(err error) string {
	switch {
	case errors.Is(err, ErrStore):
		return "The object store could not be used."
	case errors.Is(err, tenantdb.ErrUnavailable), errors.Is(err, catalog.ErrUnavailable):
		return "The database could not be reached."
	case errors.Is(err, dump.ErrFailed):
		return "The definitions of the tables could not be read."
	case errors.Is(err, context.DeadlineExceeded):
		return "There was more than could be written in its time."
	default:
		return "The export could not be made."
	}
}

// putExport streams an archive into the store. Nothing is there unless all is.
func (a *act) putExport(ctx context.Context, key string) (catalog.ExportTotals, []byte, error) {
	conn, err := a.exportConn(ctx)
	if err != nil {
		return catalog.ExportTotals{}, nil, err
	}
	defer closeConn(ctx, conn)
	out, in := io.Pipe()
	w := &measured{w: in, sum: sha256.New()}
	done := make(chan error, 1)
	var total archive.Totals
	go func() {
		var err error
		total, err = a.archive(ctx, conn, w)
		in.CloseWithError(err) // nil ends the object
		done <- err
	}()
	err = a.blob.Tenant(a.tenant.ID).Put(ctx, key, out)
	out.CloseWithError(io.ErrClosedPipe) // the store may have given up before the end
	written := <-done
	switch {
	case written != nil && !errors.Is(written, io.ErrClosedPipe):
		return catalog.ExportTotals{}, nil, exportError(ctx, written)
	case err != nil:
		return catalog.ExportTotals{}, nil, storeError(ctx, err)
	case written != nil:
		return catalog.ExportTotals{}, nil, ErrStore // it said that all was stored, before all was sent
	}
	return w.totals(total), w.sum.Sum(nil), nil
}

// exportConn connects to the tenant's database as its owner. The object store may keep
// it waiting.
func (a *act) exportConn(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := a.ownerConfig(ctx, a.tenant.Server, a.tenant.Database)
	if err != nil {
		return nil, err
	}
	conn, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the tenant's database: %w", err)
	}
	return conn, nil
}

// archive writes the tenant's archive.
func (a *act) archive(ctx context.Context, conn *pgx.Conn, w *measured) (archive.Totals, error) {
	var noted time.Time
	return archive.Write(ctx, w, archive.Source{
		Meta: archive.Meta{
			Tenant: a.tenant.ID.String(), Slug: a.tenant.Slug, Name: a.tenant.Name,
			Schema: a.tenant.SchemaVersion, Product: a.tenant.ProductVersion,
		},
		Conn: conn, Objects: a.blob.Tenant(a.tenant.ID), Definitions: a.definitions,
		Progress: func(t archive.Totals) {
			if t.Files == 0 {
				a.at("write:rows")
			} else {
				a.at("write:files")
			}
			if time.Since(noted) < exportNote {
				return
			}
			noted = time.Now()
			bounded, cancel := context.WithTimeout(ctx, exportNote)
			defer cancel()
			_ = a.cat.NoteExport(bounded, a.op, w.totals(t)) // whether it is still ours is asked elsewhere
		},
	})
}

// definitions writes a section of the product's definitions by pg_dump.
func (a *act) definitions(ctx context.Context, w io.Writer, snapshot, section string) error {
	server, err := a.cat.Server(ctx, a.tenant.Server)
	if err != nil {
		return err
	}
	tools, err := dump.Find(server.Version / versionUnit)
	if err != nil {
		return fmt.Errorf("%w: %w", dump.ErrFailed, err)
	}
	from, cleanup, err := a.client(ctx, a.tenant.Server, a.tenant.Database)
	defer cleanup()
	if err != nil {
		return err
	}
	return tools.Out(ctx, from, w, "--format=plain", "--schema-only", "--section="+section,
		"--exclude-schema=freehold", "--no-privileges", "--snapshot="+snapshot)
}

// exportError is an error of archive's as an act's.
func exportError(ctx context.Context, err error) error {
	if errors.Is(err, archive.ErrStore) {
		return storeError(ctx, err)
	}
	if s, ok := errors.AsType[*tenantdb.StateError](err); ok && (s.State == stateLockTimeout || s.State == stateDeadlock) {
		return fmt.Errorf("%w: its tables are being changed", tenantdb.ErrUnavailable)
	}
	return translate(ctx, err)
}

// measured is a writer that keeps length and sum of what was written.
type measured struct {
	w   io.Writer
	sum hash.Hash
	n   int64
}

func (m *measured) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.sum.Write(p[:n])
	m.n += int64(n)
	return n, err
}

func (m *measured) totals(t archive.Totals) catalog.ExportTotals {
	return catalog.ExportTotals{Tables: t.Tables, Rows: t.Rows, Files: t.Files, Bytes: m.n}
}

// endExport has the export downloaded.
func endExport(ctx context.Context, a *act) error {
	if err := a.cat.EndExport(ctx, a.op, ExportLife); err != nil {
		return err
	}
	a.log.InfoContext(ctx, "tenant exported", "tenant", a.tenant.ID.String(), "export", a.op.ID, "by", a.op.Actor)
	return nil
}

// undoExport removes what an export has left that failed for good or was cancelled. One
// that can be downloaded stays. A store that is away keeps no tenant busy: what is left
// there, ExpireExports removes.
func (f *Fleet) undoExport(ctx context.Context, o catalog.Operation) error {
	ctx, cancel := context.WithTimeout(ctx, forgetTime)
	defer cancel()
	switch e, err := f.cat.Export(ctx, o.TenantID, o.ID); {
	case err != nil:
		return err
	case e.State == catalog.ExportDone:
		return fmt.Errorf("the export is done: %w", catalog.ErrConflict)
	case e.Key != "" && f.blob != nil:
		if err := f.dropExport(ctx, o.TenantID, e.Key); err != nil {
			f.log.WarnContext(ctx, "what an export left is not yet removed", "operation", o.ID, "tenant", o.TenantID.String(), "reason", reason(ctx, err))
		}
	}
	return f.cat.RewindSteps(ctx, o)
}
