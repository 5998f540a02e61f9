package need_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"freehold/cmd/freehold/need"
	"freehold/router"
)

// A node says what isn't as it should be, the worst first, and never more than
// the catalog keeps.
func TestNodeHealth(t *testing.T) {
	t.Parallel()
	if got := string(need.NodeHealth([]router.ServerView{{Name: "pg-1", Breaker: "closed", OldestWait: 900 * time.Millisecond}}).JSON()); got != "{}" {
		t.Errorf("all is well: %s", got)
	}
	h := need.NodeHealth([]router.ServerView{
		{Name: "slow", Breaker: "closed", Waiting: 3, OldestWait: 2 * time.Second},
		{Name: "slower", Breaker: "closed", Waiting: 1, OldestWait: 3 * time.Second, LastError: "long ago"},
		{Name: "away", Breaker: "open", LastError: "timeout"},
		{Name: "trying", Breaker: "half-open"},
	})
	var names []string
	for _, s := range h.Servers {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "away trying slower slow" {
		t.Errorf("order: %s", got)
	}
	if h.Servers[0].Error != "timeout" || h.Servers[2].Error != "" || h.Servers[2].Breaker != "" || h.Servers[3].WaitMillis != 2000 {
		t.Errorf("%+v", h)
	}
	var many []router.ServerView
	for i := range 5000 {
		many = append(many, router.ServerView{Name: fmt.Sprintf("%063d", i), Breaker: "open", LastError: strings.Repeat("\x01é", 5000)})
	}
	text := need.NodeHealth(many).JSON()
	if len(text) > 8<<10 || !json.Valid(text) || strings.Contains(string(text), `\u0000`) {
		t.Errorf("%d bytes", len(text))
	}
}
