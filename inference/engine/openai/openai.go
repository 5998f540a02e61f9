// Package openai is an engine that speaks to any OpenAI-compatible server over
// HTTP: OpenAI itself, vLLM, Ollama. It knows the wire format and its dialects,
// never tenants; it logs no body and no header.
//
// Wire format: https://platform.openai.com/docs/api-reference and, for streams,
// https://html.spec.whatwg.org/multipage/server-sent-events.html.
package openai

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"freehold/inference/engine"
)

// Config of an engine. BaseURL is required.
type Config struct {
	BaseURL     string            // http or https, with /v1
	Key         string            // sent as a bearer token; empty: no Authorization header
	Timeout     time.Duration     // to the first byte of a stream, or to a whole answer, all tries included; 60 s
	IdleTimeout time.Duration     // of silence within a stream; 60 s
	StreamTime  time.Duration     // of a whole stream, however lively; 30 min
	Tries       int               // times that one call is sent at most; 3
	Transport   http.RoundTripper // nil: one of its own, which connects within 5 s and ignores proxy settings
	Logger      *slog.Logger      // nil: silent
}

// Bounds of what an upstream may send.
const (
	maxBody      = 32 << 20
	maxEventSize = 8 << 20
	maxChoices   = 128 // the most that n may be
)

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = 60 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 60 * time.Second
	}
	if c.StreamTime == 0 {
		c.StreamTime = 30 * time.Minute
	}
	if c.Tries == 0 {
		c.Tries = 3
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
			// Many calls share one connection there: a dead one must not outlive them all.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
			// A compressing upstream would hold events back.
			DisableCompression: true,
		}
	}
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	return c
}

func (c Config) validate() error {
	var errs []error
	u, err := url.Parse(c.BaseURL)
	switch {
	case err != nil:
		errs = append(errs, errors.New("openai engine: BaseURL is not a URL"))
	case u.Scheme != "http" && u.Scheme != "https":
		errs = append(errs, errors.New("openai engine: BaseURL must begin with http:// or https://"))
	case u.Host == "":
		errs = append(errs, errors.New("openai engine: BaseURL names no host"))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		errs = append(errs, errors.New("openai engine: BaseURL must be without user, query and fragment"))
	}
	if strings.ContainsFunc(c.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		errs = append(errs, errors.New("openai engine: Key holds a character that no header can carry"))
	}
	if c.Timeout < 0 || c.IdleTimeout < 0 || c.StreamTime < 0 {
		errs = append(errs, errors.New("openai engine: Timeout, IdleTimeout and StreamTime must not be negative"))
	}
	if c.Tries < 0 {
		errs = append(errs, errors.New("openai engine: Tries must not be negative"))
	}
	return errors.Join(errs...)
}

type client struct {
	cfg  Config
	http *http.Client
}

// New checks cfg and does no I/O. The engine also has a method Close() error,
// which lets go of idle connections; they go by themselves after 90 s.
func New(cfg Config) (engine.Engine, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &client{cfg: cfg, http: &http.Client{
		Transport: cfg.Transport,
		// A redirect would carry the key and the prompt to a host that nobody named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close lets go of idle connections.
func (c *client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}
