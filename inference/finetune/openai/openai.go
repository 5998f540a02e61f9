// Package openai is a trainer that has another server do the work: any that has
// OpenAI's fine-tuning API. It pushes the data, makes one job there however often it
// is killed, tells of it until it has ended, and takes away what it pushed.
//
// Wire format: https://platform.openai.com/docs/api-reference/fine-tuning. What an
// upstream says goes to the tenant, cleaned; errors hold its status and code alone.
package openai

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"freehold/inference/finetune"
)

// Config of a trainer. BaseURL and Engine are required.
type Config struct {
	BaseURL string // http or https, with /v1
	Key     string // sent as a bearer token; empty: no Authorization header
	Engine  string // the platform's name for that server, which will serve the models

	Timeout  time.Duration // of one call; an upload gets a second more for each 256 KiB; 60 s
	Patience time.Duration // how long a call that fails for the moment is tried again; 5 min
	// PollMin and PollMax bound the wait between two looks at a job, which grows
	// while there is nothing new; 1 s and 15 s.
	PollMin, PollMax time.Duration

	Transport http.RoundTripper // nil: one of its own, which connects within 5 s and ignores proxy settings
	Logger    *slog.Logger      // nil: silent
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if c.Patience == 0 {
		c.Patience = 5 * time.Minute
	}
	if c.PollMin == 0 {
		c.PollMin = time.Second
	}
	if c.PollMax == 0 {
		c.PollMax = 15 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
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
		errs = append(errs, errors.New("openai trainer: BaseURL is not a URL"))
	case u.Scheme != "http" && u.Scheme != "https":
		errs = append(errs, errors.New("openai trainer: BaseURL must begin with http:// or https://"))
	case u.Host == "":
		errs = append(errs, errors.New("openai trainer: BaseURL names no host"))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		errs = append(errs, errors.New("openai trainer: BaseURL must be without user, query and fragment"))
	}
	if strings.ContainsFunc(c.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		errs = append(errs, errors.New("openai trainer: Key holds a character that no header can carry"))
	}
	if c.Engine == "" {
		errs = append(errs, errors.New("openai trainer: Engine is missing"))
	}
	if c.Timeout < 0 || c.Patience < 0 || c.PollMin < 0 {
		errs = append(errs, errors.New("openai trainer: Timeout, Patience and PollMin must not be negative"))
	}
	if c.PollMax < c.PollMin {
		errs = append(errs, errors.New("openai trainer: PollMax must not be below PollMin"))
	}
	return errors.Join(errs...)
}

// Trainer is a finetune.Trainer.
type Trainer struct {
	cfg  Config
	http *http.Client
}

// New checks cfg and does no I/O.
func New(cfg Config) (*Trainer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Trainer{cfg: cfg, http: &http.Client{
		Transport: cfg.Transport,
		// A redirect would carry the key and the data to a host that nobody named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close lets go of idle connections; they go by themselves after 90 s.
func (t *Trainer) Close() error {
	t.http.CloseIdleConnections()
	return nil
}

// Check refuses methods other than supervised, which is also what none means.
func Check(m finetune.Method) error {
	if m.Type != "supervised" && m.Type != "" {
		return &finetune.Refused{Param: "method.type", Message: "this model is fine-tuned by the method supervised only"}
	}
	return nil
}

// Check is the package's.
func (t *Trainer) Check(m finetune.Method) error { return Check(m) }
