package limits_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"freehold/e2e/mockengine"
)

// A connection breaks after the database has done what it was asked for, and
// before anybody is told: at the admission, at the settlement, and before both,
// where a connection that was idle is tried. Nobody dies, so nobody else looks
// after what is written. The client asks again until it is answered, with an
// Idempotency-Key and without.
func TestG11_LostAnswersOfTheDatabase(t *testing.T) {
	t.Parallel()
	const words = 12
	g := setup(t, mockengine.Config{Delay: 5 * time.Millisecond, Words: words, Record: true}, 1)
	for i := range 6 {
		answer, keyed, stream := 1+i/2, i%2 == 0, i%3 == 0
		t.Run(fmt.Sprintf("answer %d, key %t, stream %t", answer, keyed, stream), func(t *testing.T) {
			t.Parallel()
			own := &ground{TB: t, cat: g.cat, fleet: g.fleet, mock: g.mock, way: g.way, catalogURL: g.catalogURL, nodes: g.nodes}
			who, token := own.tenant(fmt.Sprintf("lost-%d", i), 1e12, 100)
			b := own.open(who)
			a := newAsker(token)
			defer a.CloseIdleConnections()
			p := prompt{text: "Sing " + mark(90, i) + " for the guests", most: words, stream: stream}
			warm := p
			warm.text = "Sing " + mark(91, i) + " for the guests"
			if got := a.ask(t.Context(), own.at(0), warm); got.status != http.StatusOK {
				t.Fatalf("warm: %d %s %v", got.status, got.code, got.why)
			}
			// Sealing comes within the second, and has answers of its own.
			route, err := own.cat.Route(t.Context(), who.ID)
			own.ok(err)
			quiet, since := own.way.Flushes(route.Config.User), time.Now()
			own.until("the database is left alone", startTime, func() bool {
				if now := own.way.Flushes(route.Config.User); now != quiet {
					quiet, since = now, time.Now()
				}
				return time.Since(since) > 1500*time.Millisecond
			})
			if keyed {
				p.key = mark(90, i)
			}
			own.way.Lose(route.Config.User, answer)
			got := a.ask(t.Context(), own.at(0), p)
			for end := time.Now().Add(settleTime); got.status != http.StatusOK; {
				if time.Now().After(end) {
					t.Fatalf("not answered: %d %s %v", got.status, got.code, got.why)
				}
				time.Sleep(50 * time.Millisecond)
				got = a.ask(t.Context(), own.at(0), p)
			}
			b.settled()
			b.judge([]client{{p, got}}, words)
		})
	}
}
