package mail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"freehold/catalog"
)

const (
	// batch is how much mail is taken at once and abreast how much of it is sent
	// at the same time: at 20 s each it is done within the two minutes that it was
	// taken for, and nobody else sends it meanwhile.
	batch   = 8
	abreast = 4
	// roundsTime is how long a delivery goes on to take more.
	roundsTime = time.Minute
	// recordTime bounds the writing of how it went.
	recordTime = 5 * time.Second
)

// Delivery sends what is owed. All fields are required.
type Delivery struct {
	Catalog *catalog.Catalog
	Sender  *Sender
	BaseURL string // of the tenants' API, as letters tell it, without /v1
	Logger  *slog.Logger
}

// Deliver sends the mail that is due and records how it went, for two minutes at
// most. Several at once send each mail once; one that was killed between sending
// and recording has it sent again, under the same Message-ID, after two minutes.
// A mail that fails doesn't hold up the others; a mail server that does ends the
// delivery. The error is the catalog's: what becomes of a mail is in the outbox.
func (d *Delivery) Deliver(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < roundsTime; {
		taken, err := d.Catalog.TakeMail(ctx, batch)
		if err != nil {
			return fmt.Errorf("deliver mail: %w", err)
		}
		down, err := d.round(ctx, taken)
		if err != nil {
			return fmt.Errorf("deliver mail: %w", err)
		}
		if down || len(taken) < batch || ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

// round sends what was taken; down says that the server was in the way. What it
// then didn't try is taken again in two minutes.
func (d *Delivery) round(ctx context.Context, taken []catalog.Mail) (bool, error) {
	var down atomic.Bool
	var g errgroup.Group
	g.SetLimit(abreast)
	for _, m := range taken {
		g.Go(func() error {
			if down.Load() || ctx.Err() != nil {
				return nil
			}
			err := d.send(ctx, m)
			if ctx.Err() != nil && err != nil {
				return nil // stopped, and nobody's fault: it stays owed
			}
			if errors.Is(err, ErrServer) {
				down.Store(true)
			}
			return d.record(ctx, m, err)
		})
	}
	err := g.Wait()
	return down.Load(), err
}

func (d *Delivery) send(ctx context.Context, m catalog.Mail) error {
	letter, err := compose(m, d.BaseURL)
	if err != nil {
		return err
	}
	return d.Sender.Send(ctx, letter)
}

// record writes down how it went, also when ctx has ended meanwhile: what was sent
// must not be sent again.
func (d *Delivery) record(ctx context.Context, m catalog.Mail, failed error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	about := []any{"mail", m.ID, "kind", m.Kind, "tenant", m.TenantID.String()}
	if failed == nil {
		if err := d.Catalog.MailSent(ctx, m.ID); err != nil {
			return err
		}
		d.Logger.InfoContext(ctx, "mail sent", about...)
		return nil
	}
	givenUp, err := d.Catalog.MailFailed(ctx, m.ID, failed.Error(), errors.Is(failed, ErrRefused))
	if err != nil {
		return err
	}
	about = append(about, "attempt", m.Attempts+1, "error", failed)
	if givenUp {
		d.Logger.ErrorContext(ctx, "mail given up", about...)
	} else {
		d.Logger.WarnContext(ctx, "mail not sent, will be tried again", about...)
	}
	return nil
}
