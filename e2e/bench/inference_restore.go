package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// restore sets streams in which personal data is brought back beside the same
// streams in which it stays redacted. Each chunk cuts the placeholders.
func (e *estate) restore(ctx context.Context, b *bench) error {
	d, err := e.openDomain(ctx, "freehold_restore", e.address())
	if err != nil {
		return err
	}
	who, err := d.customer(ctx, "streamer", 1e12, 1000)
	if err != nil {
		return err
	}
	l, err := d.openLocal(ctx, who)
	if err != nil {
		return err
	}
	defer l.close()
	body := askedBody(askedPrompt, true)
	came := map[string]int{}
	streamed := func(mode string) *side {
		m := *l
		m.call.Config.PIIMode = mode
		return &side{name: "pii_mode " + mode, turn: func(ctx context.Context, _ int, d time.Duration) (float64, error) {
			var each []float64
			for end := time.Now().Add(d); len(each) < 3 || time.Now().Before(end); {
				v, err := m.chat(ctx, body)
				if err != nil {
					return 0, err
				}
				came[mode] = v.bytes
				each = append(each, float64(v.streamed)/float64(time.Microsecond)/chunks)
			}
			return median(each), nil
		}}
	}
	restored, redacted := streamed("restore"), streamed("redact")
	if err := b.play(ctx, "restore", restored, redacted); err != nil {
		return err
	}
	if came["restore"] == came["redact"] {
		return errors.New("nothing was restored")
	}
	return b.emit("restore_us_per_chunk", "us", atMost(50), less(restored.rounds, redacted.rounds),
		fmt.Sprintf("%s us a chunk, %s without", figure(median(restored.rounds)), figure(median(redacted.rounds))))
}
