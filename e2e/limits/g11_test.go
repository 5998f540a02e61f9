package limits_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/e2e/mockengine"
)

// client is one who asks until it is answered, and remembers every answer.
type client struct {
	prompt
	answer
}

// mark is a word for the n-th request of a client, of letters alone: nothing that
// could be taken for personal data.
func mark(client, n int) string {
	letters := func(n int) string {
		text := ""
		for range 4 {
			text += string(rune('a' + n%20))
			n /= 20
		}
		return text
	}
	return "mark" + letters(client) + letters(n)
}

// patient clients ask, again and again with the same Idempotency-Key if they have
// one, until they are answered: a connection that breaks, a node that can't serve,
// and a key in use are reasons to try again.
func (g *ground) patient(ctx context.Context, a *asker, number int) (answered []client) {
	for n := 0; ctx.Err() == nil; n++ {
		name := mark(number, n)
		p := prompt{text: "Sing " + name + " for the guests in the hall", most: 12, stream: rand.IntN(2) == 0}
		if rand.IntN(3) > 0 {
			p.key = name
		}
		for end := time.Now().Add(settleTime); ; {
			got := a.ask(context.WithoutCancel(ctx), g.at(rand.Int()), p)
			if got.status == http.StatusOK {
				answered = append(answered, client{p, got})
				break
			}
			if got.status != 0 && got.status != http.StatusServiceUnavailable && got.status != http.StatusConflict {
				g.Errorf("answered %d %s", got.status, got.code)
				return answered
			}
			if time.Now().After(end) {
				g.Errorf("not answered: %d %s %v", got.status, got.code, got.why)
				return answered
			}
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(rand.N(20 * time.Millisecond))
	}
	return answered
}

// Clients ask plainly and streamed, with and without an Idempotency-Key, and ask
// again until they are answered, while processes are killed and the tenant's
// database goes away. Each answer has one prediction, one ledger row and one audit
// row; what was billed for the answers is what the engine counted for them.
func TestG11_EachAnswerIsBookedOnce(t *testing.T) {
	t.Parallel()
	const words = 12
	g := setup(t, mockengine.Config{Delay: 20 * time.Millisecond, Words: words, Record: true}, 4)
	acme, token := g.tenant("acme", 1e12, 100)
	b := g.open(acme)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var (
		mu       sync.Mutex // guards answered
		answered []client
		all      sync.WaitGroup
	)
	a := newAsker(token)
	defer a.CloseIdleConnections()
	for number := range 8 {
		all.Go(func() {
			list := g.patient(ctx, a, number)
			mu.Lock()
			defer mu.Unlock()
			answered = append(answered, list...)
		})
	}
	var dead []int
	for range long(1, 4) {
		time.Sleep(300 * time.Millisecond)
		pid := g.kill(1 + rand.IntN(len(g.nodes)-1))
		dead = append(dead, pid)
		b.outlast([]int{pid})
		g.way.Cut()
		time.Sleep(long(400*time.Millisecond, 3*time.Second))
		g.way.Mend()
		b.visit() // else who asks again with the key of a request that died waits a minute
		time.Sleep(300 * time.Millisecond)
	}
	stop()
	all.Wait()
	b.outlast(dead)
	total := b.settled()
	b.judge(answered, words)

	keyed, streamed := 0, 0
	for _, c := range answered {
		if c.key != "" {
			keyed++
		}
		if c.stream {
			streamed++
		}
	}
	t.Logf("%d answered, %d of them with a key, %d streamed; %+v", len(answered), keyed, streamed, total)
	if keyed == 0 || streamed == 0 || keyed == len(answered) || streamed == len(answered) {
		t.Error("not every way was gone")
	}
}

const selectBooked = `
select (select count(*) from freehold.predictions p where p.id = $1 and p.state = 'succeeded'),
       (select count(*) from freehold.usage_ledger l where l.id = $1 and l.state = 'succeeded'),
       (select count(*) from freehold.audit_log a where a.id = $1 and a.action = 'prediction'),
       (select coalesce(sum(l.prompt_tokens + l.completion_tokens), 0)::bigint from freehold.usage_ledger l where l.id = $1),
       (select count(*) from freehold.predictions p where position($2 in p.input::text) > 0 and p.state = 'succeeded')`

// judge holds each answer against what was written down of it.
func (b *book) judge(answered []client, words int) {
	b.Helper()
	counted := map[string]int64{} // by prompt
	for _, call := range b.mock.Calls() {
		if call.Whole {
			counted[call.Prompt] = call.Usage.TotalTokens
		}
	}
	seen := map[string]bool{}
	var billed, used int64
	for _, c := range answered {
		if want := mockengine.Answer(c.prompt.text, words); c.answer.text != want {
			b.Errorf("answered %q, want %q", c.answer.text, want)
		}
		id, err := uuid.Parse(strings.TrimPrefix(c.id, "chatcmpl-"))
		if err != nil {
			b.Errorf("id %q: %v", c.id, err)
			continue
		}
		if seen[c.id] {
			b.Errorf("two answers are %s", c.id)
		}
		seen[c.id] = true
		var predictions, ledger, audits, tokens, same int64
		b.read(selectBooked, []any{id, strings.Fields(c.prompt.text)[1]}, &predictions, &ledger, &audits, &tokens, &same)
		if predictions != 1 || ledger != 1 || audits != 1 || tokens != c.used || c.key != "" && same != 1 {
			b.Errorf("%s: %d predictions, %d ledger rows of %d tokens, %d audit rows, %d successes; the answer says %d tokens",
				fmt.Sprintf("stream %t, key %t", c.stream, c.key != ""), predictions, ledger, tokens, audits, same, c.used)
		}
		billed += tokens
		used += counted[c.prompt.text]
	}
	if billed != used || billed == 0 {
		b.Errorf("billed %d tokens, the engine counted %d", billed, used)
	}
}
