package resttest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"freehold/catalog"
	"freehold/inference/finetune"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/blob/blobtest"
)

// Store is a bucket of the process's object store, behind a proxy of the test's.
type Store struct {
	*blob.Store

	mu      sync.Mutex // guards what follows
	refuse  func(*http.Request) bool
	uploads map[string]int // by tenant
}

var buckets atomic.Int64

// Store opens a bucket of its own.
func (p *Platform) Store() *Store {
	p.Helper()
	s := &Store{uploads: map[string]int{}}
	target, err := url.Parse(blobtest.Shared(p))
	p.OK(err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.ModifyResponse = func(r *http.Response) error {
		query := r.Request.URL.Query()
		switch {
		case r.StatusCode >= http.StatusMultipleChoices:
		case r.Request.Method == http.MethodPost && query.Has("uploads"):
			s.count(r.Request, 1)
		case query.Has("uploadId") && (r.Request.Method == http.MethodPost || r.Request.Method == http.MethodDelete):
			s.count(r.Request, -1)
		}
		return nil
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.refuses(r) {
			w.WriteHeader(http.StatusForbidden) // which nobody tries again
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	p.Cleanup(front.Close)
	s.Store, err = blob.Open(p.Context(), blob.Config{Endpoint: front.URL, Bucket: fmt.Sprintf("rest-%d", buckets.Add(1))}, true)
	p.OK(err)
	return s
}

// Refuse has the store refuse what fn says; nil: nothing.
func (s *Store) Refuse(fn func(*http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = fn
}

func (s *Store) refuses(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuse != nil && s.refuse(r)
}

// count counts an upload of the tenant under whose prefix it is: /bucket/tenants/<id>/…
func (s *Store) count(r *http.Request, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if segments := strings.Split(r.URL.Path, "/"); len(segments) > 3 {
		s.uploads[segments[3]] += by
	}
}

// Uploads is how many uploads in parts of a tenant's were begun and neither ended nor
// aborted.
func (s *Store) Uploads(id catalog.TenantID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uploads[id.String()]
}

// Tuning is the platform's fine-tuning service.
func (p *Platform) Tuning() *finetune.Service {
	p.Helper()
	s, err := finetune.NewService(finetune.ServiceConfig{
		Allowed: p.Inference.Model, Model: p.Cache.Model, Forget: p.Inference.ForgetModel,
		Check:   func(string, finetune.Method) error { return nil },
		Enqueue: p.Catalog.Enqueue, Cancel: p.Catalog.CancelWork, Drop: p.Catalog.DropWork, Logger: p.Logger,
	})
	p.OK(err)
	return s
}
