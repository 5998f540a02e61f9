package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// ErrRange is returned by GetRange when the object has none of the bytes.
var ErrRange = errors.New("range outside of the object")

// GetRange opens the bytes of key from the one at from up to, and with, the one at to,
// or the object's last where that is sooner, as HTTP counts; to below 0 is the last.
// Size is the whole object's. The caller closes. ErrRange, ErrNotFound, ErrKey.
func (o *Objects) GetRange(ctx context.Context, key string, from, to int64) (io.ReadCloser, Object, error) {
	full, err := join(o.prefix, key)
	if err != nil {
		return nil, Object{}, fmt.Errorf("get object: %w", err)
	}
	if from < 0 || to >= 0 && to < from {
		return nil, Object{}, fmt.Errorf("get object: %w", ErrRange)
	}
	asked := "bytes=" + strconv.FormatInt(from, 10) + "-"
	if to >= 0 {
		asked += strconv.FormatInt(to, 10)
	}
	out, err := o.store.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.store.bucket, Key: &full, Range: &asked})
	if _, ok := errors.AsType[*types.NoSuchKey](err); ok {
		err = ErrNotFound
	} else if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		err = ErrRange
	}
	if err != nil {
		return nil, Object{}, fmt.Errorf("get object: %w", err)
	}
	size, err := sizeOf(aws.ToString(out.ContentRange), from)
	if err != nil {
		_ = out.Body.Close()
		return nil, Object{}, fmt.Errorf("get object: %w", err)
	}
	return out.Body, Object{Key: key, Size: size, ETag: aws.ToString(out.ETag)}, nil
}

// sizeOf reads the object's size from a Content-Range (RFC 9110, 14.4) that has to
// begin at from: a store that doesn't know ranges sends everything.
func sizeOf(contentRange string, from int64) (int64, error) {
	sent, total, _ := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "/")
	first, _, _ := strings.Cut(sent, "-")
	size, err := strconv.ParseInt(total, 10, 64)
	if err != nil || first != strconv.FormatInt(from, 10) {
		return 0, fmt.Errorf("the store sent another range than it was asked for")
	}
	return size, nil
}

// maxPresign is the longest that S3 lets such an address live.
const maxPresign = 7 * 24 * time.Hour

// PresignGet returns an address from which anybody can read key for that long, without
// credentials: it is a secret. There need not be such an object. ErrKey.
func (o *Objects) PresignGet(ctx context.Context, key string, lives time.Duration) (string, error) {
	full, err := join(o.prefix, key)
	if err != nil {
		return "", fmt.Errorf("presign get: %w", err)
	}
	req, err := s3.NewPresignClient(o.store.client, s3.WithPresignExpires(min(lives, maxPresign))).
		PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &o.store.bucket, Key: &full})
	if err != nil {
		return "", fmt.Errorf("presign get: %w", err)
	}
	return req.URL, nil
}

// PresignPut returns an address to which anybody can write key for that long, by a
// PUT without credentials: it is a secret. ErrKey.
func (o *Objects) PresignPut(ctx context.Context, key string, lives time.Duration) (string, error) {
	full, err := join(o.prefix, key)
	if err != nil {
		return "", fmt.Errorf("presign put: %w", err)
	}
	req, err := s3.NewPresignClient(o.store.client, s3.WithPresignExpires(min(lives, maxPresign))).
		PresignPutObject(ctx, &s3.PutObjectInput{Bucket: &o.store.bucket, Key: &full})
	if err != nil {
		return "", fmt.Errorf("presign put: %w", err)
	}
	return req.URL, nil
}
