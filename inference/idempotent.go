package inference

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"freehold/inference/engine"
	"freehold/tenantdb"
)

// maxAnswer is the largest answer that is kept for a retry, in bytes.
const maxAnswer = 1 << 20

// keyed reports whether the call's Idempotency-Key is heeded.
func (c Call) keyed(s *Service) bool { return c.IdempotencyKey != "" && s.cfg.Seal != nil }

// claimName is what the call's Idempotency-Key is called in the database: a client
// may have put anything into it.
func (c Call) claimName() string {
	sum := sha256.Sum256([]byte(c.Scope + " " + c.IdempotencyKey))
	return hex.EncodeToString(sum[:])
}

// first runs admit, unless the call's Idempotency-Key has another request at work
// or answered: then it waits for that one's answer, and returns it. A request that
// failed frees its key, so that the one who waits is the next attempt. ErrMismatch,
// ErrNotKept.
func (s *Service) first(ctx context.Context, c Call, admit func() error) (answer json.RawMessage, err error) {
	const least, most = 20 * time.Millisecond, time.Second
	for wait := least; ; wait = min(wait*3/2, most) {
		if err := admit(); !errors.Is(err, errClaimed) {
			return nil, err
		}
		for {
			claim, err := s.claim(ctx, c)
			if errors.Is(err, tenantdb.ErrNotFound) {
				break // free again
			}
			switch {
			case err != nil:
				return nil, err
			case !bytes.Equal(claim.RequestHash, c.RequestHash):
				return nil, ErrMismatch
			case claim.Done && claim.Answer == nil:
				return nil, ErrNotKept
			case claim.Done:
				plain, err := s.cfg.Open(c.Scope, claim.Answer)
				if err != nil {
					return nil, fmt.Errorf("open kept answer: %w", err)
				}
				c.tell(Standing{Replayed: true})
				return plain, nil
			}
			if !s.pause(ctx, wait) {
				if cause := context.Cause(ctx); cause != nil {
					return nil, cause
				}
				return nil, context.Cause(s.life)
			}
			wait = min(wait*3/2, most)
		}
	}
}

func (s *Service) claim(ctx context.Context, c Call) (claim tenantdb.Claim, err error) {
	err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		claim, err = db.Claim(ctx, c.KeyID, c.claimName())
		return err
	})
	return claim, err
}

func (c Call) tell(st Standing) {
	if c.Told != nil {
		c.Told(st)
	}
}

// outlive returns a context that, for a request with an Idempotency-Key, goes on
// when its client leaves: a retry will ask for the answer. It ends with the
// request's time, with the service, and with done.
func (s *Service) outlive(ctx context.Context, c Call) (lasting context.Context, done func()) {
	if !c.keyed(s) || c.Gone == nil {
		return ctx, func() {}
	}
	lasting, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	bounded, release := lasting, context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); ok {
		bounded, release = context.WithDeadline(lasting, deadline)
	}
	stopRequest := context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); !c.Gone(cause) {
			cancel(cause)
		}
	})
	stopLife := context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })
	return bounded, func() {
		stopRequest()
		stopLife()
		release()
		cancel(nil)
	}
}

// sealed is an answer as it is kept, nil when it can't be.
func (r *record) sealed(ctx context.Context, answer any) []byte {
	if answer == nil {
		return nil
	}
	plain := marshal(answer)
	if plain == nil || len(plain) > maxAnswer {
		return nil
	}
	b, err := r.s.cfg.Seal(r.call.Scope, plain)
	if err != nil {
		r.s.cfg.Logger.ErrorContext(ctx, "answer could not be kept for a retry", r.ids()...)
		return nil
	}
	return b
}

// decode reads a kept answer.
func decode[T any](plain json.RawMessage) (*T, error) {
	var v T
	if err := json.Unmarshal(plain, &v); err != nil {
		return nil, errors.New("read kept answer: not as it was written")
	}
	return &v, nil
}

// merged is a stream with the text that came in a row put together: what is given
// again needs no pieces, and each of them costs a few hundred bytes.
func merged(chunks []*engine.ChatChunk) []*engine.ChatChunk {
	var out []*engine.ChatChunk
	var text strings.Builder // of the chunk that is being put together
	end := func() {
		if text.Len() > 0 {
			out[len(out)-1].Choices[0].Delta = engine.TextDelta("", text.String())
			text.Reset()
		}
	}
	for _, c := range chunks {
		s, ok := plainText(c)
		if ok && text.Len() > 0 && out[len(out)-1].Choices[0].Index == c.Choices[0].Index {
			text.WriteString(s)
			continue
		}
		end()
		kept := *c
		if ok {
			kept.Choices = slices.Clone(c.Choices)
			text.WriteString(s)
		}
		out = append(out, &kept)
	}
	end()
	return out
}

// plainText is the text of a chunk that is nothing else.
func plainText(c *engine.ChatChunk) (string, bool) {
	if len(c.Choices) != 1 || c.Choices[0].FinishReason != nil || c.Choices[0].Logprobs != nil {
		return "", false
	}
	delta, _ := obj(c.Choices[0].Delta)
	s, ok := str(delta["content"])
	return s, ok && s != "" && len(delta) == 1
}
