package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// Exports is what the door does with a tenant's exports. All functions are required.
type Exports struct {
	Begin func(ctx context.Context, id catalog.TenantID, o fleet.ExportOptions) (catalog.Export, error)
	Get   func(ctx context.Context, id catalog.TenantID, export string) (catalog.Export, error)
	List  func(ctx context.Context, id catalog.TenantID, after string, limit int) ([]catalog.Export, error)
}

func (e Exports) missing() bool { return e.Begin == nil || e.Get == nil || e.List == nil }

const exportPrefix = "export-"

// exportRoutes is what a tenant takes its data along by.
func (s *server) exportRoutes() []rest.Route[caller] {
	return []rest.Route[caller]{
		{
			Method: http.MethodPost, Path: "/v1/export", Scope: catalog.ScopeExport, Once: true,
			Summary:  "Begin an export of all that the tenant has: rows as lines of JSON, and the bytes of files and models, in one .tar.zst. It takes a while, and can be downloaded for a day; what is erased meanwhile stays in it that long. With an Idempotency-Key the same request, within a day, is answered with the export that it began.",
			Endpoint: rest.Begin(s.createExport),
		},
		{
			Method: http.MethodGet, Path: "/v1/export", Scope: catalog.ScopeExport, Query: rest.Paging,
			Summary:  "List exports, newest first.",
			Endpoint: rest.Give(s.listExports),
		},
		{
			Method: http.MethodGet, Path: "/v1/export/{id}", Scope: catalog.ScopeExport,
			Summary:  "Show how far an export is, or where to download it.",
			Endpoint: rest.Give(s.export),
		},
		{
			Method: http.MethodGet, Path: "/v1/export/{id}/content", Scope: catalog.ScopeExport, Timeout: contentTime,
			Summary:  "Download an export, whole or a range of it: where its url can't be reached, this can.",
			Endpoint: rest.Download(s.exportContent),
		},
	}
}

// export is a catalog.Export as the tenant sees it.
type export struct {
	ID        string `json:"id"`     // export-<uuid>
	Object    string `json:"object"` // export
	Status    string `json:"status" doc:"queued, in_progress, completed, failed or expired"`
	CreatedAt int64  `json:"created_at"`
	ReadyAt   *int64 `json:"ready_at"`
	ExpiresAt *int64 `json:"expires_at" doc:"From then on it can't be downloaded any more."`
	Bytes     int64  `json:"bytes" doc:"While it is in progress: so far, as are tables, rows and files."`
	Tables    int    `json:"tables"`
	Rows      int64  `json:"rows"`
	Files     int64  `json:"files"`

	SHA256 *string `json:"sha256" doc:"Of the whole, in hex."`
	URL    *string `json:"url,omitempty" doc:"Whoever has it can download the export, for at most 15 minutes: another one is made each time that the export is shown. It is the object store's, which may be out of reach for a tenant: /v1/export/{id}/content isn't."`
	Reason *string `json:"error" doc:"Why it failed."`
}

// exportStatus is what the states of an export are called here, as of a batch.
var exportStatus = map[string]string{
	catalog.ExportWaiting: "queued", catalog.ExportRunning: "in_progress", catalog.ExportDone: "completed",
	catalog.ExportFailed: "failed", catalog.ExportExpired: "expired",
}

func showExport(e catalog.Export) export {
	shown := export{
		ID: exportPrefix + e.ID, Object: "export", Status: exportStatus[e.State], CreatedAt: e.CreatedAt.Unix(),
		ReadyAt: seconds(e.ReadyAt), ExpiresAt: seconds(e.ExpiresAt), Bytes: e.Bytes, Tables: e.Tables, Rows: e.Rows, Files: e.Files,
	}
	if e.State == catalog.ExportDone {
		shown.SHA256 = &e.SHA256
	}
	if e.Error != "" {
		shown.Reason = &e.Error
	}
	return shown
}

func (s *server) createExport(ctx context.Context, who caller, r *rest.Request) (export, error) {
	if err := s.confirmed(); err != nil {
		return export{}, err
	}
	if who.objects == nil {
		return export{}, fleet.ErrStore
	}
	o := fleet.ExportOptions{Actor: who.actor()}
	if r.IdempotencyKey != "" {
		o.RequestKey, o.RequestHash = who.actor()+"/"+r.IdempotencyKey, r.Hash()
	}
	made, err := s.exports.Begin(ctx, who.Tenant, o)
	return showExport(made), err
}

func (s *server) listExports(ctx context.Context, who caller, r *rest.Request) (page rest.List[export], err error) {
	limit, from, err := pageOf(r, 20, 100, exportPrefix)
	if err != nil {
		return page, err
	}
	if err := s.confirmed(); err != nil {
		return page, err
	}
	after := ""
	if from != uuid.Nil {
		after = from.String()
	}
	list, err := s.exports.List(ctx, who.Tenant, after, limit+1) // one more tells that there are more
	if err != nil {
		return page, err
	}
	shown := make([]export, len(list))
	for i, e := range list {
		shown[i] = showExport(e)
	}
	return rest.Page(shown, limit, func(e export) string { return e.ID }), nil
}

// exportOf is the path's export.
func (s *server) exportOf(ctx context.Context, who caller, r *rest.Request) (catalog.Export, error) {
	if err := s.confirmed(); err != nil {
		return catalog.Export{}, err
	}
	id, err := idIn(r, exportPrefix)
	if err != nil {
		return catalog.Export{}, err
	}
	return s.exports.Get(ctx, who.Tenant, id.String())
}

func (s *server) export(ctx context.Context, who caller, r *rest.Request) (export, error) {
	e, err := s.exportOf(ctx, who, r)
	if err != nil {
		return export{}, err
	}
	shown := showExport(e)
	if e.State != catalog.ExportDone || who.objects == nil {
		return shown, nil
	}
	url, err := who.objects.PresignGet(ctx, e.Key, min(fleet.ExportURLLife, time.Until(*e.ExpiresAt)))
	if err != nil {
		return export{}, fmt.Errorf("%w: no address of the export", fleet.ErrStore)
	}
	shown.URL = &url
	return shown, nil
}

func (s *server) exportContent(ctx context.Context, who caller, r *rest.Request) (rest.Content, error) {
	e, err := s.exportOf(ctx, who, r)
	switch {
	case err != nil:
		return rest.Content{}, err
	case e.State == catalog.ExportExpired, e.State == catalog.ExportFailed:
		return rest.Content{}, catalog.ErrNotFound
	case e.State != catalog.ExportDone:
		return rest.Content{}, fmt.Errorf("the export is %s: %w", exportStatus[e.State], catalog.ErrConflict)
	case who.objects == nil:
		return rest.Content{}, fleet.ErrStore
	}
	return rest.Content{
		Name: who.Slug + "-" + e.CreatedAt.UTC().Format("20060102T150405Z") + ".tar.zst", Size: e.Bytes, Tag: e.SHA256,
		Open: func(ctx context.Context, from, to int64) (io.ReadCloser, error) {
			body, _, err := who.objects.GetRange(ctx, e.Key, from, to-1)
			switch {
			case errors.Is(err, blob.ErrNotFound):
				return nil, catalog.ErrNotFound
			case err != nil:
				return nil, errors.Join(fleet.ErrStore, err)
			}
			return body, nil
		},
	}, nil
}
