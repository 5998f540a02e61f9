package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

type newServer struct {
	Name     string `json:"name"`
	Region   string `json:"region,omitempty"`
	URL      string `json:"url" doc:"postgres://admin@host:port/postgres?sslmode=verify-full, without a password"`
	Password string `json:"password,omitempty"`
	Budget   int    `json:"budget,omitempty" doc:"Connections that Freehold may hold; from max_connections when left out."`
	Reserve  int    `json:"reserve,omitempty"`
	Insecure bool   `json:"insecure,omitempty" doc:"Accept a remote server without sslmode=verify-full."`

	Labels       map[string]string `json:"labels,omitempty"`
	Plans        []string          `json:"plans,omitempty" doc:"The plans that it takes, and that go to no server which doesn't list them; any other when left out."`
	Ready        int               `json:"ready,omitempty" doc:"Ready databases to keep for new tenants."`
	MaxDatabases int               `json:"max_databases,omitempty" doc:"As many as recovery allows when left out."`
	MaxRecovery  int               `json:"max_recovery_seconds,omitempty" doc:"What coming back from a crash may take, as predicted from its files; 120 when left out."`
	DiskBytes    int64             `json:"disk_bytes,omitempty" doc:"What there is for data."`
}

func (s *server) servers(ctx context.Context, _ operator, _ *rest.Request) (rest.List[catalog.Server], error) {
	list, err := s.catalog.Servers(ctx)
	return rest.NewList(list, false, nil), err
}

func (s *server) showServer(ctx context.Context, _ operator, r *rest.Request) (catalog.Server, error) {
	return s.catalog.Server(ctx, r.Param("name"))
}

func (s *server) addServer(ctx context.Context, who operator, r *rest.Request, in newServer) (catalog.Server, error) {
	srv, err := s.fleet.AddServer(ctx, fleet.ServerAdd{
		Name: in.Name, Region: in.Region, URL: in.URL, Password: in.Password,
		Budget: in.Budget, Reserve: in.Reserve, Insecure: in.Insecure,
		Labels: in.Labels, Plans: in.Plans, Ready: in.Ready, MaxDatabases: in.MaxDatabases, MaxRecovery: in.MaxRecovery,
		DiskBytes: in.DiskBytes,
	})
	if errors.Is(err, tenantdb.ErrUnavailable) {
		// The operator named the server and can mend it: they are told why.
		return catalog.Server{}, &rest.Error{
			Status: http.StatusServiceUnavailable, Code: "database_unavailable", Type: "server_error",
			Message: err.Error(), RetryAfter: time.Second, Err: err,
		}
	}
	if err != nil {
		return catalog.Server{}, err
	}
	s.audit(ctx, who, r, "server.add", catalog.TenantID{}, map[string]any{
		"name": srv.Name, "host": srv.Host, "port": srv.Port, "insecure": in.Insecure,
	})
	return srv, nil
}

func (s *server) setServer(ctx context.Context, who operator, r *rest.Request, in catalog.ServerPatch) (catalog.Server, error) {
	srv, err := s.catalog.SetServer(ctx, r.Param("name"), in)
	if err != nil {
		return catalog.Server{}, err
	}
	s.audit(ctx, who, r, "server.set", catalog.TenantID{}, map[string]any{"name": srv.Name, "set": in})
	return srv, nil
}

type newEngine struct {
	Name           string `json:"name"`
	Kind           string `json:"kind" doc:"builtin or openai"`
	BaseURL        string `json:"base_url,omitempty" doc:"With /v1."`
	Key            string `json:"key,omitempty"`
	TimeoutSeconds int    `json:"timeout_seconds,omitempty"`
}

func (s *server) engines(ctx context.Context, _ operator, _ *rest.Request) (rest.List[catalog.Engine], error) {
	list, err := s.catalog.Engines(ctx)
	return rest.NewList(list, false, nil), err
}

func (s *server) addEngine(ctx context.Context, who operator, r *rest.Request, in newEngine) (catalog.Engine, error) {
	if in.TimeoutSeconds < 0 {
		return catalog.Engine{}, rest.Bad("timeout_seconds", "timeout_seconds must not be negative.")
	}
	e, err := s.catalog.AddEngine(ctx, catalog.EngineSpec{
		Name: in.Name, Kind: in.Kind, BaseURL: in.BaseURL, Key: in.Key, Timeout: time.Duration(in.TimeoutSeconds) * time.Second,
	})
	if err != nil {
		return catalog.Engine{}, err
	}
	s.audit(ctx, who, r, "engine.add", catalog.TenantID{}, map[string]any{"name": e.Name, "kind": e.Kind, "has_key": e.HasKey})
	return e, nil
}

func (s *server) removeEngine(ctx context.Context, who operator, r *rest.Request) (deleted, error) {
	name := r.Param("name")
	if err := s.catalog.RemoveEngine(ctx, name); err != nil {
		return deleted{}, err
	}
	s.audit(ctx, who, r, "engine.remove", catalog.TenantID{}, map[string]any{"name": name})
	return deleted{name, "engine", true}, nil
}

func (s *server) nodes(ctx context.Context, _ operator, _ *rest.Request) (rest.List[catalog.Node], error) {
	list, err := s.catalog.Nodes(ctx)
	return rest.NewList(list, false, nil), err
}
