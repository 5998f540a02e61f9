package blob

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
)

// tenantsPrefix is what every tenant's prefix begins with.
const tenantsPrefix = "tenants/"

const (
	// dropAtOnce is how many objects are deleted at a time: one by one, since not
	// every store takes lists of them.
	dropAtOnce = 16
	// dropRounds is how often Drop lists again what should be gone.
	dropRounds = 5
)

// Total is what lies under a prefix.
type Total struct{ Objects, Bytes int64 }

// Total counts what lies under prefix (may be empty) of the handle. ErrKey.
func (o *Objects) Total(ctx context.Context, prefix string) (t Total, err error) {
	err = o.List(ctx, prefix, func(obj Object) error {
		t.Objects++
		t.Bytes += obj.Size
		return nil
	})
	return t, err
}

// Drop removes every object under the tenant's prefix and every upload there that
// was never finished, and returns when a listing shows none. It is for who deletes
// the tenant, after its last writer is gone. Idempotent. In a bucket that keeps
// versions the older ones stay: see Versioning.
func (s *Store) Drop(ctx context.Context, id catalog.TenantID) error {
	if id.IsZero() {
		return fmt.Errorf("drop prefix: no tenant")
	}
	o := s.Tenant(id)
	return o.drop(ctx, "", nil)
}

// DropPrefix removes every object whose key begins with prefix, and every upload
// there that was never finished, and returns when a listing shows none; what begins
// with one of keep stays. Each of them ends in a slash. Idempotent. ErrKey.
func (o *Objects) DropPrefix(ctx context.Context, prefix string, keep ...string) error {
	for _, p := range append([]string{prefix}, keep...) {
		if _, err := joinList(o.prefix, p); err != nil || !strings.HasSuffix(p, "/") {
			return fmt.Errorf("drop prefix: %w: it has to end in a slash", ErrKey)
		}
	}
	return o.drop(ctx, prefix, func(key string) bool {
		return slices.ContainsFunc(keep, func(p string) bool { return strings.HasPrefix(key, p) })
	})
}

// drop deletes what is under prefix, but for the keys (relative to the handle) that
// keep wants.
func (o *Objects) drop(ctx context.Context, prefix string, keep func(key string) bool) error {
	for range dropRounds {
		left, err := o.dropOnce(ctx, prefix, keep)
		if err != nil {
			return fmt.Errorf("drop prefix: %w", err)
		}
		if left == 0 {
			return nil
		}
	}
	return fmt.Errorf("drop prefix: the store still lists objects after %d rounds", dropRounds)
}

// dropOnce deletes what is listed now and returns how much that was.
func (o *Objects) dropOnce(ctx context.Context, prefix string, keep func(key string) bool) (found int, err error) {
	goes := func(key string) bool { return strings.HasPrefix(key, prefix) && (keep == nil || !keep(key)) }
	// Uploads first: one that is finished meanwhile is an object in the listing.
	if found, err = o.abortUploads(ctx, prefix, goes); err != nil {
		return 0, err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(dropAtOnce)
	err = o.List(gctx, prefix, func(obj Object) error {
		if !goes(obj.Key) {
			return nil
		}
		found++
		// Past checkKey: whatever lies under the prefix has to go.
		full := o.prefix + obj.Key
		group.Go(func() error {
			_, err := o.store.client.DeleteObject(gctx, &s3.DeleteObjectInput{Bucket: &o.store.bucket, Key: &full})
			if err != nil && !missing(err) {
				return fmt.Errorf("delete object: %w", err)
			}
			return nil
		})
		return nil
	})
	// A deletion that failed has cancelled the listing, and is the cause.
	if derr := group.Wait(); derr != nil {
		err = derr
	}
	return found, err
}

// AbortUploads ends every upload to key that was never finished, and removes its
// parts. Idempotent. ErrKey.
func (o *Objects) AbortUploads(ctx context.Context, key string) error {
	if _, err := join(o.prefix, key); err != nil {
		return fmt.Errorf("abort uploads: %w", err)
	}
	if _, err := o.abortUploads(ctx, key, func(k string) bool { return k == key }); err != nil {
		return fmt.Errorf("abort uploads: %w", err)
	}
	return nil
}

// abortUploads aborts those under prefix whose key (relative to the handle) goes, and
// returns how many that were.
func (o *Objects) abortUploads(ctx context.Context, prefix string, goes func(key string) bool) (found int, err error) {
	full := o.prefix + prefix
	pages := s3.NewListMultipartUploadsPaginator(o.store.client, &s3.ListMultipartUploadsInput{
		Bucket: &o.store.bucket, Prefix: &full,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return found, fmt.Errorf("list uploads: %w", err)
		}
		for _, u := range page.Uploads {
			key, inside := strings.CutPrefix(aws.ToString(u.Key), o.prefix)
			if !inside {
				return found, fmt.Errorf("list uploads: the store answered with a key outside of the prefix")
			}
			if !goes(key) {
				continue
			}
			found++
			_, err := o.store.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
				Bucket: &o.store.bucket, Key: u.Key, UploadId: u.UploadId,
			})
			if err != nil && !missing(err) {
				return found, fmt.Errorf("abort upload: %w", err)
			}
		}
	}
	return found, nil
}

// Tenants calls fn with each prefix directly under tenants/, and stops at fn's
// first error, which it returns. ok is false for what no tenant's id names, and
// id is zero then.
func (s *Store) Tenants(ctx context.Context, fn func(id catalog.TenantID, ok bool, prefix string) error) error {
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{
		Bucket: &s.bucket, Prefix: aws.String(tenantsPrefix), Delimiter: aws.String("/"),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list tenants' prefixes: %w", err)
		}
		var found []string
		for _, p := range page.CommonPrefixes {
			found = append(found, aws.ToString(p.Prefix))
		}
		for _, c := range page.Contents { // an object beside the prefixes is nobody's
			found = append(found, aws.ToString(c.Key))
		}
		for _, prefix := range found {
			name, closed := strings.CutSuffix(strings.TrimPrefix(prefix, tenantsPrefix), "/")
			id, err := catalog.ParseTenantID(name)
			// The canonical form alone: another spelling is another prefix.
			ok := closed && err == nil && id.String() == name
			if !ok {
				id = catalog.TenantID{}
			}
			if err := fn(id, ok, prefix); err != nil {
				return err
			}
		}
	}
	return nil
}

// What Versioning answers.
const (
	VersioningOff       = "off"
	VersioningEnabled   = "enabled"
	VersioningSuspended = "suspended" // none are added, those from before stay
	VersioningUnknown   = "unknown"   // the store doesn't tell, or not these credentials
)

// Versioning tells whether the bucket keeps what is deleted or overwritten. The
// error is about the way to the store alone.
func (s *Store) Versioning(ctx context.Context) (string, error) {
	out, err := s.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &s.bucket})
	if err != nil {
		if status := statusOf(err); status >= http.StatusBadRequest && status < http.StatusInternalServerError ||
			status == http.StatusNotImplemented {
			return VersioningUnknown, nil
		}
		return "", fmt.Errorf("ask for versioning: %w", err)
	}
	switch out.Status {
	case types.BucketVersioningStatusEnabled:
		return VersioningEnabled, nil
	case types.BucketVersioningStatusSuspended:
		return VersioningSuspended, nil
	}
	return VersioningOff, nil
}
