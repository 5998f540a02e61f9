package files

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime/multipart"
	"time"

	"github.com/google/uuid"

	"freehold/inference"
	"freehold/tenantdb"
)

// Body is a form that arrives while it is read; *rest.Request has it.
type Body interface {
	// Length is how many bytes it has; -1: nobody has said.
	Length() int64
	// Form begins to read it.
	Form() (*multipart.Reader, error)
	// Finish reads what stands behind the last part.
	Finish() error
	// BodyError is why it couldn't be read on; nil: it could.
	BodyError() error
}

// formBytes is what a form may have beside its file.
const formBytes = 64 << 10

// Create stores the file of a form and returns its row. Fields may stand before and
// behind the file. When it returns an error, nothing is left of the file, or a visit
// is due that removes it. Beside what body returns: *inference.BadRequest,
// ErrTooLarge, ErrBusy, ErrStore, tenantdb.ErrStorageFull.
func (s *Service) Create(ctx context.Context, who Who, body Body) (tenantdb.File, error) {
	if who.Objects == nil {
		return tenantdb.File{}, ErrStore
	}
	leave, err := s.enter(who.Scope)
	if err != nil {
		return tenantdb.File{}, err
	}
	defer leave()
	left, err := s.room(ctx, who)
	if err != nil {
		return tenantdb.File{}, err
	}
	if body.Length() > left+formBytes {
		return tenantdb.File{}, tenantdb.ErrStorageFull
	}
	form, err := body.Form()
	if err != nil {
		return tenantdb.File{}, err
	}
	u := &upload{Service: s, who: who, left: left}
	if err := u.receive(ctx, form, body); err != nil {
		if u.begun && !u.pending {
			s.clear(ctx, u.who, u.file.ID)
		}
		return tenantdb.File{}, err
	}
	return u.end(ctx)
}

// room is how much more the tenant may store.
func (s *Service) room(ctx context.Context, who Who) (left int64, err error) {
	err = who.Lend(ctx, func(ctx context.Context, db *tenantdb.DB) error {
		taken, err := db.StoredBytes(ctx)
		left = max(0, who.Limit-taken)
		return err
	})
	return left, err
}

// upload is a file on its way.
type upload struct {
	*Service
	who    Who
	left   int64 // bytes that the tenant may store
	file   tenantdb.File
	begun  bool // its row may be there
	stored bool
	// pending: the store may be at work on it still, so that it is a visit's to remove.
	pending bool
	fields  fields
}

// receive reads the whole form, and stores its file.
func (u *upload) receive(ctx context.Context, form *multipart.Reader, body Body) error {
	err := u.parts(ctx, form)
	if berr := body.BodyError(); berr != nil {
		return berr // the form's own error would say that it is malformed
	}
	if err == nil {
		err = body.Finish()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if !u.stored {
		return missing("file")
	}
	return u.fields.complete()
}

func (u *upload) parts(ctx context.Context, form *multipart.Reader) error {
	for range maxParts {
		// Raw: a file's bytes are those that came.
		part, err := form.NextRawPart()
		if err == io.EOF { //nolint:errorlint // one that is wrapped is a form without an end
			return nil
		}
		if err != nil {
			return &inference.BadRequest{Message: "The form is malformed."}
		}
		if part.FormName() == "file" {
			err = u.store(ctx, part)
		} else {
			err = u.fields.take(part)
		}
		if err != nil {
			return err
		}
	}
	return &inference.BadRequest{Message: "The form has too many parts."}
}

// store stores the form's file.
func (u *upload) store(ctx context.Context, part *multipart.Part) (err error) {
	if u.stored {
		return &inference.BadRequest{Param: "file", Message: "A form has one file."}
	}
	u.file = tenantdb.File{APIKey: u.who.APIKey, CreatedAt: time.Now().Truncate(time.Second)}
	if u.file.Name, err = nameOf(part); err != nil {
		return err
	}
	if u.file.ID, err = uuid.NewV7(); err != nil {
		return fmt.Errorf("name file: %w", err)
	}
	// The purpose may come later, and is the end's to set.
	if u.file.Purpose = u.fields.purpose; u.file.Purpose == "" {
		u.file.Purpose = tenantdb.PurposeUserData
	}
	// Before there is anything to be found: whatever is left of this upload, if this
	// process dies here or below, a visit removes.
	if err := u.who.Due(ctx, sweepAfter); err != nil {
		return err
	}
	u.begun = true // whether it is there may remain unknown
	err = u.who.again(ctx, func(ctx context.Context, db *tenantdb.DB, _ Who) error { return db.BeginFile(ctx, u.file) })
	if err != nil {
		return err
	}
	in := &intake{from: part, hash: sha256.New(), max: u.max, left: u.left}
	put, end := longer(ctx)
	defer end()
	if err := u.who.Objects.Put(put, key(u.file.ID), in); err != nil {
		if u.pending = put.Err() != nil; in.err != nil {
			return in.err
		}
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	u.stored, u.file.Bytes, u.file.Sum = true, in.n, in.hash.Sum(nil)
	return nil
}

// storeTime is how long the store may take for what has arrived when its client is
// gone: it is to be seen through, not waited for by anybody.
const storeTime = 30 * time.Second

// longer is a context for storing that lasts a while longer than ctx, with which the
// bytes end to arrive. A store goes on with a request that it is left alone with, and
// what it makes after the upload was cleared away nobody would find.
func longer(ctx context.Context) (context.Context, context.CancelFunc) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unbind := context.AfterFunc(ctx, func() { time.AfterFunc(storeTime, cancel) })
	return lasting, func() { unbind(); cancel() }
}

// end makes the upload a file. When nobody can say whether that was done, it is asked
// once more, and then left as it is: a file, or an upload that a visit gives up.
func (u *upload) end(ctx context.Context) (tenantdb.File, error) {
	f := u.file
	f.Purpose = u.fields.purpose
	if u.fields.seconds > 0 {
		at := f.CreatedAt.Add(time.Duration(u.fields.seconds) * time.Second)
		f.ExpiresAt = &at
	}
	try := func(ctx context.Context) (file tenantdb.File, err error) {
		err = u.who.again(ctx, func(ctx context.Context, db *tenantdb.DB, who Who) (err error) {
			file, err = db.EndFile(ctx, who.Actor, f, who.Limit)
			return err
		})
		return file, err
	}
	file, err := try(ctx)
	doubt := doubtful(err)
	if err != nil && !verdict(err) {
		// All of it has come, and the caller may be gone.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
		defer cancel()
		file, err = try(ctx)
		doubt = doubt || doubtful(err)
	}
	if err == nil {
		return file, nil
	}
	if verdict(err) || !doubt {
		u.clear(ctx, u.who, f.ID)
	}
	return tenantdb.File{}, err
}

// verdict reports whether the database itself has said that the upload is no file.
func verdict(err error) bool {
	return errors.Is(err, tenantdb.ErrStorageFull) || errors.Is(err, tenantdb.ErrNotFound) || errors.Is(err, tenantdb.ErrInvalid)
}

// doubtful reports whether what failed may have been done all the same.
func doubtful(err error) bool {
	return errors.Is(err, tenantdb.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// intake is a file's bytes on their way to the store, counted and hashed.
type intake struct {
	from      io.Reader
	hash      hash.Hash
	n         int64
	max, left int64
	err       error // why it ended before its end
}

func (in *intake) Read(p []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.from.Read(p)
	in.n += int64(n)
	in.hash.Write(p[:n]) // never fails
	switch {
	case in.n > in.max:
		in.err = ErrTooLarge
	case in.n > in.left:
		in.err = tenantdb.ErrStorageFull
	case err != nil && !errors.Is(err, io.EOF):
		// What the form's own error hides, the body says.
		in.err = &inference.BadRequest{Message: "The form is malformed."}
	default:
		return n, err
	}
	return n, in.err
}
