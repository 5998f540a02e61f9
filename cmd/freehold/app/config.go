// Package app is the program as a value: it reads the configuration, composes
// the parts, runs them and stops them in order.
package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"freehold/cmd/freehold/admin"
)

// Config is what the environment and the flags say. Secrets come from files and
// the environment, never from a flag.
type Config struct {
	CatalogURL     string // FREEHOLD_CATALOG_URL
	MasterKeyFile  string // FREEHOLD_MASTER_KEY_FILE
	Listen         string // FREEHOLD_LISTEN
	AdminListen    string // FREEHOLD_ADMIN_LISTEN
	TLSCert        string // FREEHOLD_TLS_CERT
	TLSKey         string // FREEHOLD_TLS_KEY
	AdminTokenFile string // FREEHOLD_ADMIN_TOKEN_FILE
	S3Endpoint     string // FREEHOLD_S3_ENDPOINT
	S3Bucket       string // FREEHOLD_S3_BUCKET
	DataDir        string // FREEHOLD_DATA_DIR
	LogLevel       string // FREEHOLD_LOG_LEVEL
	PublicURL      string // FREEHOLD_PUBLIC_URL: of the tenants' API, as they are told it; where it listens when empty
	Drain          string // FREEHOLD_DRAIN: how long what is under way may go on when the node stops

	Mail      Mail
	Routing   Routing
	Training  Training
	Telemetry Telemetry // OTEL_*
}

// FromEnv reads the environment; what isn't set has its documented default.
func FromEnv(getenv func(string) string) Config {
	or := func(name, otherwise string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	c := Config{
		CatalogURL:     getenv("FREEHOLD_CATALOG_URL"),
		MasterKeyFile:  getenv("FREEHOLD_MASTER_KEY_FILE"),
		Listen:         or("FREEHOLD_LISTEN", "127.0.0.1:8080"),
		AdminListen:    or("FREEHOLD_ADMIN_LISTEN", "127.0.0.1:8081"),
		TLSCert:        getenv("FREEHOLD_TLS_CERT"),
		TLSKey:         getenv("FREEHOLD_TLS_KEY"),
		AdminTokenFile: getenv("FREEHOLD_ADMIN_TOKEN_FILE"),
		S3Endpoint:     getenv("FREEHOLD_S3_ENDPOINT"),
		S3Bucket:       getenv("FREEHOLD_S3_BUCKET"),
		DataDir:        or("FREEHOLD_DATA_DIR", ".freehold"),
		LogLevel:       or("FREEHOLD_LOG_LEVEL", "info"),
		PublicURL:      getenv("FREEHOLD_PUBLIC_URL"),
		Drain:          or("FREEHOLD_DRAIN", defaultDrain),
		Mail:           mailFromEnv(getenv),
		Telemetry:      telemetryFromEnv(getenv),
		Training:       trainingFromEnv(getenv),
	}
	for _, s := range c.Routing.Settings() {
		*s.Value = or(s.Env, s.Default)
	}
	return c
}

// ErrConfig is wrapped by every report of bad configuration.
var ErrConfig = errors.New("bad configuration")

// Need says which parts a command uses.
type Need uint8

// The parts.
const (
	NeedCatalog Need = 1 << iota
	NeedS3
	NeedDoors // and the token of the operators' one
	NeedAddresses
	NeedMail    // the way that mail leaves, if any
	NeedWorkers // what workers train with
)

// Check reports every mistake at once.
func (c Config) Check(need Need) error {
	var errs []error
	miss := func(name, value, what string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s is not set: %s", name, what))
		}
	}
	if need&NeedCatalog != 0 {
		miss("FREEHOLD_CATALOG_URL", c.CatalogURL, "postgres://admin@host/freehold")
		miss("FREEHOLD_MASTER_KEY_FILE", c.MasterKeyFile, "where the master key lies, or `freehold catalog migrate` writes a new one")
	}
	if need&NeedS3 != 0 {
		miss("FREEHOLD_S3_BUCKET", c.S3Bucket, "the bucket for tenants' objects")
	}
	if need&NeedDoors != 0 {
		miss("FREEHOLD_ADMIN_TOKEN_FILE", c.AdminTokenFile, "a file that holds the operators' token")
	}
	if need&(NeedDoors|NeedAddresses) != 0 {
		errs = append(errs, checkAddr("FREEHOLD_LISTEN", c.Listen), checkAddr("FREEHOLD_ADMIN_LISTEN", c.AdminListen))
		if (c.TLSCert == "") != (c.TLSKey == "") {
			errs = append(errs, errors.New("FREEHOLD_TLS_CERT and FREEHOLD_TLS_KEY go together"))
		}
		_, err := c.Routing.parse()
		_, badDrain := c.drain()
		errs = append(errs, err, badDrain, c.Telemetry.check())
	}
	if need&NeedMail != 0 {
		errs = append(errs, c.Mail.check())
	}
	if need&NeedWorkers != 0 {
		_, err := c.Training.parse()
		errs = append(errs, err)
	}
	if need&(NeedDoors|NeedAddresses|NeedMail) != 0 {
		errs = append(errs, c.checkPublicURL())
	}
	if _, err := c.level(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w:\n%w%s", ErrConfig, err, c.devHint())
	}
	return nil
}

// devHint reminds of dev.env where freehold dev has been at work.
func (c Config) devHint() string {
	file := filepath.Join(c.DataDir, devEnvFile)
	if _, err := os.Stat(file); c.CatalogURL != "" || err != nil {
		return ""
	}
	return "\nfor freehold dev's own parts, while it runs: . " + file
}

func checkAddr(name, addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("%s: %q is not host:port", name, addr)
	}
	return nil
}

func (c Config) level() (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return 0, fmt.Errorf("FREEHOLD_LOG_LEVEL: %q is none of debug, info, warn, error", c.LogLevel)
	}
	return l, nil
}

// Logger writes to stderr: text for a person, JSON otherwise.
func (c Config) Logger(person bool) *slog.Logger {
	l, err := c.level()
	if err != nil {
		l = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: l}
	if person {
		return slog.New(slog.NewTextHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, opts))
}

// readSecret reads a file that holds one secret; a final line break is not part
// of it. The error names the file, never what is in it.
func readSecret(path string) (string, error) {
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	s := strings.TrimRight(string(b), "\r\n")
	if len(s) < admin.MinToken {
		return "", fmt.Errorf("%w: %s: a token has at least %d characters", ErrConfig, path, admin.MinToken)
	}
	return s, nil
}
