package catalog_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

func TestExposed(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"postgres://a@localhost/c":                               false,
		"postgres://a@127.0.0.1:5433/c?sslmode=disable":          false,
		"postgres://a@[::1]/c":                                   false,
		"postgres:///c?host=/var/run/postgresql":                 false,
		"postgres://a@db.example/c":                              true,
		"postgres://a@db.example/c?sslmode=disable":              true,
		"postgres://a@db.example/c?sslmode=allow":                true,
		"postgres://a@db.example/c?sslmode=prefer":               true,
		"postgres://a@db.example/c?sslmode=require":              false,
		"postgres://a@db.example/c?sslmode=verify-full":          false,
		"postgres://a@192.0.2.7/c":                               true,
		"postgres://a@localhost,db.example/c?sslmode=disable":    true,
		"postgres://a@localhost.example/c?sslmode=disable":       true,
		"postgres://a@127.0.0.1.example/c?sslmode=disable":       true,
		"host=localhost,127.0.0.1 user=a dbname=c sslmode=allow": false,
	} {
		cfg, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		if got := catalog.Exposed(cfg); got != want {
			t.Errorf("%s: %v, want %v", url, got, want)
		}
	}
}
