package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

// broughtAlong counts what a new tenant got of another one's files and models.
type broughtAlong struct {
	Files      int64 `json:"files"`
	Models     int64 `json:"models"`
	LostFiles  int64 `json:"lost_files"` // whose objects are gone: left out
	LostModels int64 `json:"lost_models"`
}

const noteObjects = "objects"

const (
	// What was on its way, or about to go, isn't brought along.
	dropUnsettledFiles  = `delete from freehold.files f where f.state <> 'processed'`
	dropUnsettledModels = `delete from freehold.models m where m.state <> 'ready'`

	selectBroughtFiles  = `select f.id, f.bytes, ''::text from freehold.files f where f.id > $1 order by f.id limit $2`
	selectBroughtModels = `select m.id, m.bytes, m.artifact from freehold.models m where m.id > $1 order by m.id limit $2`
	deleteFile          = `delete from freehold.files f where f.id = $1`
	deleteModel         = `delete from freehold.models m where m.id = $1`
)

// bringObjects copies the objects of the files and models that the new database names
// from the other tenant's prefix into its own, and leaves out those that aren't there
// any more. It may be done again.
func bringObjects(ctx context.Context, a *act) error {
	if a.blob == nil {
		return fmt.Errorf("%w: none is configured", ErrStore)
	}
	_, of, err := a.source()
	if err != nil {
		return err
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	conn, err := a.builder(ctx, a.tenant.Server, freshName(a.tenant.ID))
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	for _, sql := range []string{dropUnsettledFiles, dropUnsettledModels} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return translate(ctx, err)
		}
	}
	from, to := a.blob.Tenant(of), a.blob.Tenant(a.tenant.ID)
	var n broughtAlong
	n.Files, n.LostFiles, err = bringEach(ctx, conn, selectBroughtFiles, deleteFile, func(w wasThing) (bool, error) {
		return copyObject(ctx, from, to, tenantdb.FileKey(w.ID), w.Bytes)
	})
	if err == nil {
		n.Models, n.LostModels, err = bringEach(ctx, conn, selectBroughtModels, deleteModel, func(w wasThing) (bool, error) {
			return copyArtifact(ctx, from, to, w)
		})
	}
	if err != nil {
		return err
	}
	a.log.InfoContext(ctx, "objects brought along", "tenant", a.tenant.ID.String(), "from", of.String(), "files", n.Files,
		"models", n.Models, "lost_files", n.LostFiles, "lost_models", n.LostModels)
	return a.cat.NoteOperation(ctx, a.op, noteObjects, n)
}

// bringEach brings what the rows of a query name, and deletes the rows of what isn't
// there.
func bringEach(ctx context.Context, conn *pgx.Conn, sql, del string, bring func(wasThing) (bool, error)) (brought, lost int64, err error) {
	after := uuid.Nil
	for {
		rows, _ := conn.Query(ctx, sql, after, page) // its error is in rows
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[wasThing])
		if err != nil || len(list) == 0 {
			return brought, lost, translate(ctx, err)
		}
		after = list[len(list)-1].ID
		for _, w := range list {
			there, err := bring(w)
			switch {
			case err != nil:
				return brought, lost, err
			case there:
				brought++
			default:
				if _, err := conn.Exec(ctx, del, w.ID); err != nil {
					return brought, lost, translate(ctx, err)
				}
				lost++
			}
		}
	}
}

// copyObject copies an object of that size, unless an earlier try did.
func copyObject(ctx context.Context, from, to *blob.Objects, key string, bytes int64) (bool, error) {
	if there, err := objectThere(ctx, to, key, bytes); err != nil || there {
		return there, err
	}
	r, o, err := from.Get(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, storeError(ctx, err)
	}
	defer r.Close()
	if o.Size != bytes {
		return false, nil
	}
	return true, storeError(ctx, to.Put(ctx, key, r))
}

// copyArtifact copies a model's objects. One that is served elsewhere has none.
func copyArtifact(ctx context.Context, from, to *blob.Objects, w wasThing) (bool, error) {
	if there, err := artifactThere(ctx, from, w); err != nil || !there || w.Artifact == "" {
		return there, err
	}
	var all []blob.Object
	err := from.List(ctx, strings.TrimSuffix(w.Artifact, "/")+"/", func(o blob.Object) error {
		all = append(all, o)
		return nil
	})
	if err != nil {
		return false, storeError(ctx, err)
	}
	for _, o := range all {
		if there, err := copyObject(ctx, from, to, o.Key, o.Size); err != nil || !there {
			return false, err
		}
	}
	return true, nil
}
