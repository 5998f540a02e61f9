package fleet

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
)

// PsqlEnv returns what the real psql needs in its environment (PGHOST, PGPORT,
// PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE, PGSSLROOTCERT, PGOPTIONS): read-only
// as the tenant's role, or with write as the admin with role=freehold_owner. The
// role of a tenant that isn't active can't log in: then the admin looks, read-only
// too. Give it to that one child process and to nothing else. The caller calls
// cleanup, which is never nil and removes a CA file.
func (f *Fleet) PsqlEnv(ctx context.Context, id catalog.TenantID, write bool) (env []string, cleanup func(), err error) {
	cleanup = func() {}
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return nil, cleanup, fmt.Errorf("psql environment: %w", err)
	}
	const readOnly, asOwner = "-c default_transaction_read_only=on", "-c role=" + migrations.RoleOwner
	options := readOnly
	var cfg *pgx.ConnConfig
	if write || t.State != catalog.Active {
		if options = asOwner; !write {
			options += " " + readOnly
		}
		cfg, err = f.cat.ServerAdmin(ctx, t.Server, t.Database)
	} else {
		var route catalog.Route
		route, err = f.cat.Route(ctx, id)
		cfg = route.Config
	}
	if err != nil {
		return nil, cleanup, fmt.Errorf("psql environment: %w", err)
	}
	mode, root, cleanup, err := f.sslEnv(ctx, t.Server)
	if err != nil {
		return nil, cleanup, fmt.Errorf("psql environment: %w", err)
	}
	env = []string{
		"PGHOST=" + cfg.Host,
		"PGPORT=" + strconv.Itoa(int(cfg.Port)),
		"PGUSER=" + cfg.User,
		"PGPASSWORD=" + cfg.Password,
		"PGDATABASE=" + cfg.Database,
		"PGSSLMODE=" + mode,
		"PGOPTIONS=" + options,
		"PGAPPNAME=freehold-psql",
		"PGCONNECT_TIMEOUT=" + strconv.Itoa(int(connectTimeout.Seconds())),
	}
	if root != "" {
		env = append(env, "PGSSLROOTCERT="+root)
	}
	return env, cleanup, nil
}

// systemRoots are where distributions keep the certificates that they trust.
// libpq knows sslrootcert=system only from version 16 on.
var systemRoots = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/cert.pem",
}

// sslEnv returns sslmode and the file of root certificates, made here when the
// catalog holds them.
func (f *Fleet) sslEnv(ctx context.Context, server string) (mode, root string, cleanup func(), err error) {
	cleanup = func() {}
	servers, err := f.cat.Servers(ctx)
	if err != nil {
		return "", "", cleanup, err
	}
	i := slices.IndexFunc(servers, func(s catalog.Server) bool { return s.Name == server })
	if i < 0 {
		return "", "", cleanup, fmt.Errorf("server %s: %w", server, catalog.ErrNotFound)
	}
	mode = servers[i].SSLMode
	if mode != sslVerify {
		return mode, "", cleanup, nil
	}
	pem, err := f.cat.ServerCA(ctx, server)
	if err != nil {
		return "", "", cleanup, err
	}
	if pem == "" {
		for _, file := range systemRoots {
			if _, err := os.Stat(file); err == nil {
				return mode, file, cleanup, nil
			}
		}
		return mode, "system", cleanup, nil
	}
	root, err = writeTemp(pem)
	if err != nil {
		return "", "", cleanup, err
	}
	return mode, root, func() { _ = os.Remove(root) }, nil
}

func writeTemp(text string) (string, error) {
	file, err := os.CreateTemp("", "freehold-ca-*.pem")
	if err != nil {
		return "", err
	}
	_, err = file.WriteString(text)
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return "", err
	}
	return file.Name(), nil
}
