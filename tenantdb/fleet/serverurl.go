package fleet

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"freehold/catalog"
)

// sslModes are those that say what they do: no falling back, and no certificate
// that is looked at by half.
var sslModes = []string{sslDisable, sslRequire, sslVerify}

const sslDisable, sslRequire, sslVerify = "disable", "require", "verify-full"

// parseServerURL reads postgres://admin@host:port/postgres?sslmode=…&sslrootcert=FILE
// into a spec; a unix socket's folder is the parameter host. Every mistake is named
// at once, and none quotes the URL: it may hold what doesn't belong there.
func parseServerURL(a ServerAdd) (catalog.ServerSpec, error) {
	spec := catalog.ServerSpec{
		Name: a.Name, Region: a.Region, Password: a.Password, Port: 5432,
		Labels: a.Labels, Plans: a.Plans, Ready: a.Ready, MaxDatabases: a.MaxDatabases, MaxRecovery: a.MaxRecovery,
		DiskBytes: a.DiskBytes,
	}
	u, err := url.Parse(a.URL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return spec, fmt.Errorf("%w: URL: want postgres://admin@host:port/postgres", catalog.ErrInvalid)
	}
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if a.Name == "" {
		wrong("Name: required")
	}
	spec.Host, spec.AdminUser = u.Hostname(), u.User.Username()
	if spec.AdminUser == "" {
		wrong("URL: no user")
	}
	if _, has := u.User.Password(); has {
		wrong("URL: a password doesn't belong into it")
	}
	if p := u.Port(); p != "" {
		if spec.Port, err = strconv.Atoi(p); err != nil || spec.Port < 1 || spec.Port > 65535 {
			wrong("URL: port: want 1 to 65535")
		}
	}
	if db := strings.TrimPrefix(u.Path, "/"); db != "" && db != maintenance {
		wrong("URL: database: want %s", maintenance)
	}
	for name, values := range u.Query() {
		value := values[len(values)-1]
		switch {
		case name == "sslmode" && slices.Contains(sslModes, value):
			spec.SSLMode = value
		case name == "sslmode":
			wrong("URL: sslmode: want one of %s", strings.Join(sslModes, ", "))
		case name == "sslrootcert" && value == "system":
		case name == "sslrootcert":
			spec.SSLRootCA, err = readCA(value)
			if err != nil {
				wrong("URL: sslrootcert: %w", err)
			}
		case name == "host" && spec.Host == "":
			spec.Host = value
		default:
			wrong("URL: parameter %s: not known", strconv.Quote(name))
		}
	}
	switch {
	case spec.Host == "":
		wrong("URL: no host")
	case strings.Contains(spec.Host, ","):
		wrong("URL: one host only")
	}
	if spec.SSLMode == "" {
		spec.SSLMode = sslRequire
		if local(spec.Host) {
			spec.SSLMode = sslDisable
		}
	}
	if spec.SSLRootCA != "" && spec.SSLMode != sslVerify {
		wrong("URL: sslrootcert: needs sslmode=%s, else nothing is compared with it", sslVerify)
	}
	if err := errors.Join(errs...); err != nil {
		return spec, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	if !a.Insecure && spec.SSLMode != sslVerify && !local(spec.Host) {
		return spec, ErrInsecureServer
	}
	return spec, nil
}

func readCA(file string) (string, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return "", errors.New("no certificate in it")
	}
	return string(pem), nil
}

// local reports whether nothing leaves this machine on the way to host: a loopback
// address or a unix socket's folder.
func local(host string) bool {
	if host == "localhost" || strings.HasPrefix(host, "/") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
