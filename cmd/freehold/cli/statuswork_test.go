package cli_test

import (
	"strings"
	"testing"
)

// Fine-tuning that nobody does, and what fails again and again, is named with whose
// it is.
func TestStatusOfWork(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 3, 0)
	w.exec(`insert into tenant_config (tenant) select id from tenants`)
	w.exec(`insert into work_queue (id, tenant, trainer, run_at, attempts, error)
		select gen_random_uuid(), t.id, n.trainer, now() + n.due * interval '1 minute', n.attempts, n.error
		  from tenants t join (values ('far-1', 'command:trl', -5, 0, ''), ('far-1', 'command:trl', -1, 0, ''), ('far-2', 'command:trl', -12, 0, ''),
		       ('far-3', 'openai', 10, 4, E'the server\nsaid no'), ('far-3', 'openai', 10, 2, 'a blip'), ('far-3', 'builtin', -1, 0, '')) as n (slug, trainer, due, attempts, error)
		    on n.slug = t.slug`)
	text, s := w.status(1)
	if got := kinds(s); got != "work_idle work_failing" {
		t.Fatalf("%s\n%s", got, text)
	}
	for _, want := range []string{
		"\n  fine-tuning: 0 running, 6 waiting\n",
		"! 2 fine-tuning jobs of far-1, far-2 wait for 12 min: no worker with trainer command:trl takes it → freehold worker\n",
		"! 1 fine-tuning job of far-3 with trainer openai fails again and again: the server said no → freehold model list\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	if s.Needs[0].Count != 2 || s.Needs[1].Count != 1 || s.FineTuning.Waiting != 6 {
		t.Errorf("%+v", s)
	}
	// Whoever is at work says that workers are there.
	w.exec(`update work_queue set state = 'running', lease_until = now() + interval '1 hour' where trainer = 'builtin'`)
	if _, s = w.status(1); kinds(s) != "work_failing" || s.FineTuning.Running != 1 {
		t.Errorf("a worker is busy: %s", kinds(s))
	}
}
