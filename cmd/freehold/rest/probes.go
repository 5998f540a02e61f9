package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"sync"
	"time"
)

// readyTimeout bounds a readiness check: an orchestrator asks often.
const readyTimeout = 2 * time.Second

type probe struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

// probes serves what both doors have: alive, ready, the document. They need no key.
func (d *Door) probes() {
	d.public("/healthz", "Whether the process is alive.", reflect.TypeFor[probe](), func(context.Context, *Request) (*Reply, error) {
		return OK(probe{"ok", d.cfg.Version}), nil
	})
	d.public("/readyz", "Whether this node can serve.", reflect.TypeFor[probe](), func(ctx context.Context, _ *Request) (*Reply, error) {
		if d.cfg.Ready != nil {
			ctx, cancel := context.WithTimeout(ctx, readyTimeout)
			defer cancel()
			if err := d.cfg.Ready(ctx); err != nil {
				// Without its cause: an orchestrator asks every second, and whoever
				// lost what is missing has said so in the log.
				return nil, &Error{
					Status: http.StatusServiceUnavailable, Code: "database_unavailable", Type: typeServer,
					Message: "Not ready.", RetryAfter: time.Second,
				}
			}
		}
		return OK(probe{"ready", d.cfg.Version}), nil
	})
	// Made on first use: the routes are mounted after New.
	doc := sync.OnceValues(func() (json.RawMessage, error) { return json.Marshal(d.openAPI()) })
	d.public("/openapi.json", "This document.", reflect.TypeFor[map[string]any](), func(context.Context, *Request) (*Reply, error) {
		b, err := doc()
		return OK(b), err
	})
}

func (d *Door) public(path, summary string, out reflect.Type, run runFunc) {
	d.add(http.MethodGet, path, "", 0, run)
	d.document(operation{method: http.MethodGet, path: path, summary: summary, out: out, status: http.StatusOK, public: true})
}
