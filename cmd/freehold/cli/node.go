package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

// nodeFlags say which node's admin API is asked. The token itself is never a
// flag: a process list shows those.
type nodeFlags struct {
	url, ca, tokenFile string
}

// nodeFromEnv is what the environment says, and the default of a node on this
// machine.
func nodeFromEnv() nodeFlags {
	return nodeFlags{
		url:       or(os.Getenv("FREEHOLD_ADMIN_URL"), "http://127.0.0.1:8081"),
		tokenFile: os.Getenv("FREEHOLD_ADMIN_TOKEN_FILE"),
	}
}

func (f *nodeFlags) add(c *cobra.Command) {
	fl := c.PersistentFlags()
	fl.StringVar(&f.url, "admin-url", f.url, "the node's admin API (FREEHOLD_ADMIN_URL)")
	fl.StringVar(&f.tokenFile, "admin-token-file", f.tokenFile,
		"file that holds the operators' token (FREEHOLD_ADMIN_TOKEN_FILE; or the token itself in FREEHOLD_ADMIN_TOKEN)")
	fl.StringVar(&f.ca, "admin-ca", "", "`file` of certificates, PEM, to trust besides the system's")
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

const (
	// nodeTimeout bounds a call to a node: a person waits.
	nodeTimeout = 10 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 16 << 20
)

// node is the admin API of one node. Close it.
type node struct {
	base  *url.URL
	token string
	http  *http.Client
}

func (f *nodeFlags) open(e *env) (*node, error) {
	base, err := url.Parse(strings.TrimRight(f.url, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("%w: FREEHOLD_ADMIN_URL: want http://HOST:PORT or https://HOST:PORT", app.ErrConfig)
	}
	// The environment's own token gives way to a file that the command line names.
	token := os.Getenv("FREEHOLD_ADMIN_TOKEN")
	if f.tokenFile != "" && (token == "" || f.tokenFile != os.Getenv("FREEHOLD_ADMIN_TOKEN_FILE")) {
		if token, err = e.secret(f.tokenFile, "operators' token"); err != nil {
			return nil, err
		}
	}
	if token == "" {
		return nil, fmt.Errorf("%w: neither FREEHOLD_ADMIN_TOKEN_FILE nor FREEHOLD_ADMIN_TOKEN is set: the operators' token of the node", app.ErrConfig)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if f.ca != "" {
		if transport.TLSClientConfig, err = trusting(f.ca); err != nil {
			return nil, err
		}
	}
	return &node{base, token, &http.Client{
		Transport: transport, Timeout: nodeTimeout,
		// The token is for this address alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// trusting is the system's roots and those in a file.
func trusting(file string) (*tls.Config, error) {
	pem, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return nil, fmt.Errorf("%w: --admin-ca: %w", app.ErrConfig, err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: --admin-ca: %s holds no certificate", app.ErrConfig, file)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

func (n *node) close() { n.http.CloseIdleConnections() }

// Errors of a call.
var (
	errNoNode  = errors.New("no node answers")
	errToken   = errors.New("the node refuses the token: FREEHOLD_ADMIN_TOKEN_FILE, or FREEHOLD_ADMIN_TOKEN, must hold the one that it was started with")
	errNotNode = errors.New("what answers there is not a Freehold node's admin API: see FREEHOLD_ADMIN_LISTEN of the node")
)

// call asks for a path below /admin/v1 and decodes the answer. For what isn't
// there the error is catalog.ErrNotFound.
func (n *node) call(ctx context.Context, method, path string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, n.base.String()+"/admin/v1"+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("ask node: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+n.token)
	resp, err := n.http.Do(req)
	if err != nil {
		return n.unanswered(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return n.unanswered(err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, answer); err != nil {
			return fmt.Errorf("%s: %w", n.base.Redacted(), errNotNode)
		}
		return nil
	}
	return n.refused(ctx, resp.StatusCode, path, body)
}

// unanswered says why nothing came back.
func (n *node) unanswered(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // the address is said here
	}
	hint := "is it running? FREEHOLD_ADMIN_URL says where"
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		hint = "--admin-ca names a file of certificates to trust"
	}
	return fmt.Errorf("%w at %s: %w (%s)", errNoNode, n.base.Redacted(), err, hint)
}

// refused says what an answer other than 200 means.
func (n *node) refused(ctx context.Context, status int, path string, body []byte) error {
	var said struct {
		Error struct{ Message string } `json:"error"`
	}
	known := json.Unmarshal(body, &said) == nil && said.Error.Message != ""
	switch {
	case !known, status == http.StatusNotFound && !n.isAdmin(ctx, path):
		return fmt.Errorf("%s: %w", n.base.Redacted(), errNotNode)
	case status == http.StatusUnauthorized:
		return fmt.Errorf("%s: %w", n.base.Redacted(), errToken)
	case status == http.StatusNotFound:
		return catalog.ErrNotFound
	default:
		return errors.New(strings.TrimSuffix(said.Error.Message, "."))
	}
}

// routerPath is one that every admin API has.
const routerPath = "/router?top=0"

// isAdmin tells an unknown tenant from an unknown route: the tenants' door, which
// has no admin route at all, says of both that there is nothing.
func (n *node) isAdmin(ctx context.Context, path string) bool {
	return path != routerPath && n.call(ctx, http.MethodGet, routerPath, new(json.RawMessage)) == nil
}
