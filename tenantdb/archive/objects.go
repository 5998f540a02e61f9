package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"freehold/tenantdb/blob"
)

// objects writes the bytes of the store's objects.
func (a *writing) objects(ctx context.Context, list []object) error {
	for _, o := range list {
		if a.Objects == nil {
			a.out.leaveOut(o.key, "there is no object store")
			continue
		}
		if !strings.HasSuffix(o.key, "/") {
			if err := a.object(ctx, o); err != nil {
				return err
			}
			continue
		}
		var under []object // of a model: few
		err := a.Objects.List(ctx, o.key, func(b blob.Object) error {
			under = append(under, object{key: b.Key, path: safePath(b.Key), size: b.Size})
			return nil
		})
		if err != nil {
			return storeError(ctx, err)
		}
		if len(under) == 0 {
			a.out.leaveOut(o.key, gone)
		}
		for _, b := range under {
			if err := a.object(ctx, b); err != nil {
				return err
			}
		}
	}
	return nil
}

const gone = "it was removed while the export was made"

func (a *writing) object(ctx context.Context, o object) error {
	r, info, err := a.Objects.Get(ctx, o.key)
	if errors.Is(err, blob.ErrNotFound) {
		a.out.leaveOut(o.key, gone)
		return nil
	}
	if err != nil {
		return storeError(ctx, err)
	}
	defer r.Close()
	in := &source{ctx: ctx, r: r}
	err = a.out.add(Entry{Path: o.path, Object: o.key, Name: o.name}, info.Size, in)
	switch {
	case in.err != nil || errors.Is(err, errLength):
		return storeError(ctx, err)
	case err != nil:
		return err
	}
	if e := a.out.man.Entries[len(a.out.man.Entries)-1]; o.sum != "" && e.SHA256 != o.sum {
		// Better what there is than nothing.
		a.out.leaveOut(o.key, "its bytes are not those that were uploaded: here is what the store has")
	}
	a.total.Files++
	a.Progress(a.total)
	return nil
}

// storeError keeps of a store's error that it is one, and the caller's own end.
func storeError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrStore, ctx.Err())
	}
	_ = err // it names hosts, buckets and request ids
	return ErrStore
}
