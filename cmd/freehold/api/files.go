package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/inference"
	"freehold/inference/files"
	"freehold/inference/finetune"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

// Objects is a tenant's prefix of the object store, as its handle. Nil: there is no
// store, and files can't be used.
type Objects func(id catalog.TenantID) *blob.Objects

// contentTime bounds a download. The engine of it is the client: who reads nothing is
// left sooner.
const contentTime = time.Hour

// formBytes is what a form may have beside its file.
const formBytes = 1 << 20

// fileRoutes is the tenants' files, in OpenAI's shapes.
func (s *server) fileRoutes(maxFile int64) []rest.Route[caller] {
	return []rest.Route[caller]{
		{
			Method: http.MethodPost, Path: "/v1/files", Scope: catalog.ScopeFiles, Timeout: files.UploadTime,
			Summary:  "Upload a file, at most 512 MB.",
			Endpoint: rest.Upload[fileForm, file](maxFile+formBytes, s.createFile),
		},
		{
			Method: http.MethodGet, Path: "/v1/files", Scope: catalog.ScopeFiles,
			Query: append([]rest.Query{
				{Name: "purpose", Type: "string", Summary: "Of this purpose alone."},
				{Name: "order", Type: "string", Summary: "asc or desc (default), by time."},
			}, rest.Paging...),
			Summary:  "List files.",
			Endpoint: rest.Give(s.files),
		},
		{
			Method: http.MethodGet, Path: "/v1/files/{id}", Scope: catalog.ScopeFiles,
			Summary:  "Show a file.",
			Endpoint: rest.Give(s.file),
		},
		{
			Method: http.MethodDelete, Path: "/v1/files/{id}", Scope: catalog.ScopeFiles,
			Summary:  "Delete a file that no unfinished job needs.",
			Endpoint: rest.Give(s.deleteFile),
		},
		{
			Method: http.MethodGet, Path: "/v1/files/{id}/content", Scope: catalog.ScopeFiles, Timeout: contentTime,
			Summary:  "Download a file, whole or a range of it.",
			Endpoint: rest.Download(s.fileContent),
		},
	}
}

// fileForm is for the document: the service reads forms itself.
type fileForm struct {
	File    rest.File `json:"file"`
	Purpose string    `json:"purpose" doc:"fine-tune or user_data"`
	Anchor  string    `json:"expires_after[anchor],omitempty" doc:"created_at"`
	Seconds int64     `json:"expires_after[seconds],omitempty" doc:"3600 to 2592000"`
}

// file is OpenAI's shape of a file.
type file struct {
	ID            string  `json:"id"`
	Object        string  `json:"object"` // file
	Bytes         int64   `json:"bytes"`
	CreatedAt     int64   `json:"created_at"`
	ExpiresAt     *int64  `json:"expires_at"`
	Filename      string  `json:"filename"`
	Purpose       string  `json:"purpose"`
	Status        string  `json:"status"` // processed
	StatusDetails *string `json:"status_details"`
}

func showFile(f tenantdb.File) file {
	return file{
		ID: finetune.FilePrefix + f.ID.String(), Object: "file", Bytes: f.Bytes, CreatedAt: f.CreatedAt.Unix(),
		ExpiresAt: seconds(f.ExpiresAt), Filename: f.Name, Purpose: f.Purpose, Status: f.State,
	}
}

// keeps is the caller as the files know them. A tenant whose database isn't migrated
// yet waits.
func (s *server) keeps(who caller, r *rest.Request) (files.Who, error) {
	return s.keepsAfter(who, r, 1)
}

// keepsAfter is keeps for a request that was decided n times.
func (s *server) keepsAfter(who caller, r *rest.Request, n int) (files.Who, error) {
	return files.Who{
		Scope: who.Tenant.String(),
		Lend: func(ctx context.Context, fn func(ctx context.Context, db *tenantdb.DB) error) error {
			return who.tenant.Borrow(ctx, tenantdb.Interactive, fn)
		},
		Tidy: func(ctx context.Context, fn func(ctx context.Context, db *tenantdb.DB) error) error {
			return s.tidy(ctx, who.Tenant, fn)
		},
		Objects: who.objects,
		Due:     func(ctx context.Context, in time.Duration) error { return s.due(ctx, who.Tenant, in) },
		Again: func(ctx context.Context) (files.Who, error) {
			if n == decisions {
				return files.Who{}, tenantdb.ErrFenced
			}
			s.cache.Refresh(who.Tenant)
			now, err := s.admit(ctx, r, catalog.ScopeFiles)
			if err == nil && now.Tenant != who.Tenant { // its bytes lie elsewhere
				err = catalog.ErrInvalidKey
			}
			if err != nil {
				return files.Who{}, err
			}
			return s.keepsAfter(now, r, n+1)
		},
		Actor:  tenantdb.Actor{Actor: who.actor(), RequestID: r.ID, Audit: who.Config.AuditLogEnabled},
		APIKey: who.KeyID, Limit: who.Config.FileStorageLimit,
	}, who.needsSchema(inference.TunedSchema)
}

// tidy lends a tenant's database to the platform itself, as it is by now.
func (s *server) tidy(ctx context.Context, id catalog.TenantID, fn func(ctx context.Context, db *tenantdb.DB) error) error {
	for n := 1; ; n++ {
		route, err := s.cache.Route(ctx, id, 0)
		if err != nil {
			return err
		}
		err = bounded{s.router.For(id, route.Epoch), s.wait}.Borrow(ctx, tenantdb.Interactive, fn)
		if n == decisions || !errors.Is(err, tenantdb.ErrFenced) {
			return err
		}
		s.cache.Refresh(id)
	}
}

func (s *server) createFile(ctx context.Context, who caller, r *rest.Request) (file, error) {
	keeper, err := s.keeps(who, r)
	if err != nil {
		return file{}, err
	}
	made, err := s.keeper.Create(ctx, keeper, r)
	return showFile(made), err
}

func (s *server) files(ctx context.Context, who caller, r *rest.Request) (page rest.List[file], err error) {
	want := tenantdb.FileFilter{Purpose: r.Query("purpose")}
	if want.Limit, want.After, err = pageOf(r, 10000, 10000, finetune.FilePrefix); err != nil {
		return page, err
	}
	switch want.Purpose {
	case "", tenantdb.PurposeFineTune, tenantdb.PurposeUserData, tenantdb.PurposeResults:
	default:
		known := append(files.Purposes(), tenantdb.PurposeResults)
		return page, rest.Bad("purpose", fmt.Sprintf("purpose must be one of %s.", strings.Join(known, ", ")))
	}
	switch order := r.Query("order"); order {
	case "", "desc":
	case "asc":
		want.Ascending = true
	default:
		return page, rest.Bad("order", "order must be asc or desc.")
	}
	keeper, err := s.keeps(who, r)
	if err != nil {
		return page, err
	}
	list, more, err := s.keeper.List(ctx, keeper, want)
	shown := make([]file, len(list))
	for i, f := range list {
		shown[i] = showFile(f)
	}
	return rest.NewList(shown, more, func(f file) string { return f.ID }), err
}

// fileOf is the caller as the files know them, and the path's id.
func (s *server) fileOf(who caller, r *rest.Request) (files.Who, uuid.UUID, error) {
	keeper, err := s.keeps(who, r)
	if err != nil {
		return keeper, uuid.Nil, err
	}
	id, err := idIn(r, finetune.FilePrefix)
	return keeper, id, err
}

func (s *server) file(ctx context.Context, who caller, r *rest.Request) (file, error) {
	keeper, id, err := s.fileOf(who, r)
	if err != nil {
		return file{}, err
	}
	f, err := s.keeper.Get(ctx, keeper, id)
	return showFile(f), err
}

func (s *server) deleteFile(ctx context.Context, who caller, r *rest.Request) (deleted, error) {
	keeper, id, err := s.fileOf(who, r)
	if err != nil {
		return deleted{}, err
	}
	return deleted{finetune.FilePrefix + id.String(), "file", true}, s.keeper.Delete(ctx, keeper, id)
}

func (s *server) fileContent(ctx context.Context, who caller, r *rest.Request) (rest.Content, error) {
	keeper, id, err := s.fileOf(who, r)
	if err != nil {
		return rest.Content{}, err
	}
	f, open, err := s.keeper.Content(ctx, keeper, id)
	return rest.Content{Name: f.Name, Size: f.Bytes, Tag: fmt.Sprintf("%x", f.Sum), Open: open}, err
}
