package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"freehold/catalog"
)

// ErrNotFound is returned by Get when there is no object of that key.
var ErrNotFound = errors.New("object not found")

// abortTimeout bounds the removal of the parts of a Put that failed.
const abortTimeout = 10 * time.Second

// Objects is one prefix: what it reads, lists and writes lies under it. Keys are
// relative to it. It is safe for concurrent use.
type Objects struct {
	store  *Store
	prefix string
}

// Object is what a listing or a Get tells of an object. Size is in bytes.
type Object struct {
	Key  string
	Size int64
	ETag string
}

// Put streams r (unknown length is fine) to key. It appears whole or not at all,
// and replaces what was there. ErrKey.
func (o *Objects) Put(ctx context.Context, key string, r io.Reader) error {
	full, err := join(o.prefix, key)
	if err != nil {
		return fmt.Errorf("put object: %w", err)
	}
	_, err = o.store.upload.UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket: &o.store.bucket, Key: &full, Body: r,
	})
	if err != nil {
		return fmt.Errorf("put object: %w", err)
	}
	return nil
}

// Get opens key; the caller closes. ErrNotFound, ErrKey.
func (o *Objects) Get(ctx context.Context, key string) (io.ReadCloser, Object, error) {
	full, err := join(o.prefix, key)
	if err != nil {
		return nil, Object{}, fmt.Errorf("get object: %w", err)
	}
	out, err := o.store.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.store.bucket, Key: &full})
	if _, ok := errors.AsType[*types.NoSuchKey](err); ok {
		return nil, Object{}, fmt.Errorf("get object: %w", ErrNotFound)
	}
	if err != nil {
		return nil, Object{}, fmt.Errorf("get object: %w", err)
	}
	return out.Body, Object{Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag)}, nil
}

// List calls fn with each object under prefix (may be empty), keys relative to the
// handle, and stops at fn's first error, which it returns. ErrKey.
func (o *Objects) List(ctx context.Context, prefix string, fn func(Object) error) error {
	full, err := joinList(o.prefix, prefix)
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	pages := s3.NewListObjectsV2Paginator(o.store.client, &s3.ListObjectsV2Input{
		Bucket: &o.store.bucket, Prefix: &full,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list objects: %w", err)
		}
		for _, c := range page.Contents {
			key, inside := strings.CutPrefix(aws.ToString(c.Key), o.prefix)
			if !inside {
				return fmt.Errorf("list objects: the store answered with a key outside of the prefix")
			}
			if err := fn(Object{Key: key, Size: aws.ToInt64(c.Size), ETag: aws.ToString(c.ETag)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Delete is idempotent. ErrKey.
func (o *Objects) Delete(ctx context.Context, key string) error {
	full, err := join(o.prefix, key)
	if err != nil {
		return fmt.Errorf("delete object: %w", err)
	}
	_, err = o.store.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &o.store.bucket, Key: &full})
	if err != nil && !missing(err) {
		return fmt.Errorf("delete object: %w", err)
	}
	return nil
}

// Marker is the key of the object that shows whose prefix it is: it holds the
// tenant's id.
const Marker = ".freehold"

// CreatePrefix makes the tenant's prefix by writing its marker. Idempotent.
func (s *Store) CreatePrefix(ctx context.Context, id catalog.TenantID) error {
	if err := s.Tenant(id).Put(ctx, Marker, strings.NewReader(id.String()+"\n")); err != nil {
		return fmt.Errorf("create prefix: %w", err)
	}
	return nil
}

// missing reports whether the store answered 404.
func missing(err error) bool { return statusOf(err) == http.StatusNotFound }

// statusOf is the status that the store answered, 0 when it didn't.
func statusOf(err error) int {
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return e.HTTPStatusCode()
	}
	return 0
}
