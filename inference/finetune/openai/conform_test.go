package openai_test

import (
	"net/http"
	"testing"

	"freehold/catalog"
	"freehold/inference/finetune"
	"freehold/inference/finetune/openai"
	"freehold/inference/finetune/trainertest"
)

// holdsHeader, on a look at a job, keeps the upstream from ending it.
const holdsHeader = "X-Test-Holds"

// patientTransport asks for jobs that go on.
type patientTransport struct{ *http.Transport }

func (p patientTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(holdsHeader, "1")
	return p.Transport.RoundTrip(r)
}

func TestConforms(t *testing.T) {
	t.Parallel()
	trainertest.Run(t, func(t *testing.T) trainertest.Fixture {
		g := setup(t)
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		count := func(of func(*upJob) bool) func() int {
			return func() (n int) {
				g.up.mu.Lock()
				defer g.up.mu.Unlock()
				for _, j := range g.up.jobs {
					if of(j) {
						n++
					}
				}
				return n
			}
		}
		return trainertest.Fixture{
			Trainer: g.trainer,
			Slow:    setupAt(t, g.up, g.log, func(c *openai.Config) { c.Transport = patientTransport{transport} }),
			Base:    catalog.Model{Name: "answer", Engine: "there", Upstream: "gpt-up"},
			Spoil:   func(_ *testing.T, run *finetune.Run) { run.Job.Base.Upstream = "gpt-none" },
			Saves:   true,
			Elsewhere: &trainertest.Elsewhere{
				Begun:   count(func(*upJob) bool { return true }),
				Running: count(func(j *upJob) bool { return j.FinishedAt == nil }),
			},
			Secrets: []string{key},
		}
	})
}
