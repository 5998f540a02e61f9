package catalog

import (
	"encoding/json"
	"strings"
	"time"
)

const (
	// maxHealth bounds what a node may write of itself, in bytes.
	maxHealth   = 8 << 10
	healthEvery = time.Second
)

// health is what the node says of itself, once a second: nil when it said that
// already, or has nothing to say.
func (w *watcher) health() *string {
	say := w.cache.cfg.Health
	if say == nil || time.Since(w.said) < healthEvery {
		return nil
	}
	w.said = time.Now()
	text := string(say())
	// What can't be stored would cost the heartbeat, and with it the node.
	if len(text) > maxHealth || !json.Valid([]byte(text)) || strings.Contains(text, `\u0000`) {
		text = "{}"
	}
	return &text
}
