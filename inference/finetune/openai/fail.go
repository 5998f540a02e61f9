package openai

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"freehold/inference/finetune"
)

// Errors of calls that had no answer to use.
var (
	errUnreachable = errors.New("the upstream could not be reached, or broke off")
	errTooLarge    = errors.New("the upstream's answer is larger than this trainer accepts")
	errMalformed   = errors.New("the upstream's answer is not what was expected")
	errNotHTTP     = errors.New("what it sent is not HTTP, or broke off")
)

// unreachable keeps of a transport's error how the connection fared, in words that
// aren't the upstream's: those may quote what it was sent.
func unreachable(err error) error {
	why := errNotHTTP
	if op, ok := errors.AsType[*net.OpError](err); ok {
		why = op
	} else if dns, ok := errors.AsType[*net.DNSError](err); ok {
		why = dns
	} else if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		why = cert
	} else {
		for _, known := range []error{io.ErrUnexpectedEOF, io.EOF, net.ErrClosed, context.Canceled, context.DeadlineExceeded} {
			if errors.Is(err, known) {
				why = known
				break
			}
		}
	}
	return fmt.Errorf("%w: %w", errUnreachable, why)
}

// refusal is an answer of another status than 2xx. Its error says no more than can
// stand in a log; Message and Param are for the tenant.
type refusal struct {
	Status         int
	Code           string
	Message, Param string
	again          string // X-Should-Retry
	after          time.Duration
}

func (r *refusal) Error() string {
	if r.Code != "" {
		return fmt.Sprintf("the upstream answered %d, %s", r.Status, r.Code)
	}
	return fmt.Sprintf("the upstream answered %d", r.Status)
}

// term fits what upstreams call their errors, model_not_found, and hardly a word of
// anybody's data; word also fits names of metrics, and what only the tenant sees.
var (
	term = regexp.MustCompile(`^[a-z]+([_.][a-z0-9]+){1,8}$`)
	word = regexp.MustCompile(`^[a-z][a-z0-9_.]{0,63}$`)
)

func (t *Trainer) refused(resp *http.Response, body []byte) *refusal {
	r := &refusal{Status: resp.StatusCode, again: resp.Header.Get("X-Should-Retry")}
	if s, err := strconv.ParseFloat(resp.Header.Get("Retry-After"), 64); err == nil && s > 0 {
		r.after = time.Duration(min(s, 3600) * float64(time.Second))
	}
	var outer struct {
		Error struct{ Message, Code, Param any }
	}
	if json.Unmarshal(body, &outer) != nil {
		return r
	}
	text := func(v any) string {
		s, _ := v.(string)
		return s
	}
	r.Message = text(outer.Error.Message)
	r.Param = t.word(text(outer.Error.Param))
	if r.Code = t.word(text(outer.Error.Code)); !term.MatchString(r.Code) {
		r.Code = ""
	}
	return r
}

// word returns what is one, and "" for anything else.
func (t *Trainer) word(s string) string {
	if !word.MatchString(s) || t.cfg.Key != "" && strings.Contains(s, t.cfg.Key) {
		return ""
	}
	return s
}

// passing reports whether an error tells of a state that may pass soon.
func passing(err error) bool {
	if errors.Is(err, errUnreachable) || errors.Is(err, errMalformed) {
		return true
	}
	r, ok := errors.AsType[*refusal](err)
	switch {
	case !ok, r.again == "false", r.Code == "insufficient_quota":
		return false
	case r.again == "true", r.Status >= 500:
		return true
	}
	return r.Status == http.StatusTooManyRequests || r.Status == http.StatusRequestTimeout
}

// hopeless reports whether an error will be the same at each later try.
func hopeless(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && !passing(err) && r.Status >= 400 && r.Status < 500 &&
		r.Status != http.StatusTooManyRequests && r.Status != http.StatusConflict && r.Code != "idempotency_mismatch"
}

// status returns that of a refusal, 0 for any other error.
func status(err error) int {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.Status
	}
	return 0
}

// pause is how long to wait after the nth try, from 1: a quarter to a half of
// Config.PollMin, doubled each time up to PollMax, or for as long as the upstream asks.
func (t *Trainer) pause(n int, err error) time.Duration {
	d := max(1, min(t.cfg.PollMin/4<<min(n-1, 16), t.cfg.PollMax/2))
	d += rand.N(d) //nolint:gosec // spreads retries, hides nothing
	if r, ok := errors.AsType[*refusal](err); ok {
		d = max(d, r.after)
	}
	return d
}

// maxText bounds what a tenant is told in an upstream's words.
const maxText = 500

// models are an upstream's names of tuned models and their checkpoints.
var models = regexp.MustCompile(`\bft:[A-Za-z0-9._:/-]*[A-Za-z0-9]`)

// clean makes an upstream's text fit for the tenant: one line, bounded, without this
// platform's key and with our names instead of the upstream's.
func (w *work) clean(text string) string {
	text = strings.NewReplacer(w.names...).Replace(text)
	text = models.ReplaceAllString(text, w.run.Job.Model)
	if w.cfg.Key != "" {
		text = strings.ReplaceAll(text, w.cfg.Key, "[key]")
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if r := []rune(text); len(r) > maxText {
		text = string(r[:maxText]) + "…"
	}
	return text
}

// failure is what a hopeless refusal is for the tenant.
func (w *work) failure(err error) error {
	r, ok := errors.AsType[*refusal](err)
	if !ok || !hopeless(err) {
		return err
	}
	f := &finetune.Failure{Code: finetune.CodeTrainer}
	switch r.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		f.Message = "The server that fine-tunes this model did not accept this platform's credentials."
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		f.Message = "The server that fine-tunes this model does not know the model, or does not fine-tune."
	default:
		f.Message = "The server that fine-tunes this model refused the job."
		if text := w.clean(r.Message); text != "" {
			f.Message = strings.TrimSuffix(f.Message, ".") + ": " + text
		}
		f.Param = param(r.Param)
	}
	return f
}

// param keeps the names of members that are ours as well.
func param(name string) string {
	switch name {
	case "training_file", "validation_file", "model", "suffix", "seed", "method", "hyperparameters":
		return name
	}
	return ""
}
