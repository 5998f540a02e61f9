package blob

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"freehold/catalog"
)

// Config of a Store. Bucket is required; Endpoint empty means AWS. Credentials and
// region come from the AWS SDK's environment; with an Endpoint the region may be unset.
type Config struct{ Endpoint, Bucket string }

func (c Config) validate() error {
	var errs []error
	if c.Bucket == "" {
		errs = append(errs, errors.New("Bucket: required"))
	}
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			errs = append(errs, errors.New("Endpoint: want http://host:port or https://host:port"))
		} else if u.User != nil {
			errs = append(errs, errors.New("Endpoint: credentials don't belong into it"))
		}
	}
	return errors.Join(errs...)
}

const (
	// attempts bounds each request to the store, first try included.
	attempts = 4
	// maxBackoff is the longest pause between two of them.
	maxBackoff = time.Second
	// regionUnset is what stores that have no regions expect in a signature.
	regionUnset = "us-east-1"
	// A Put holds at most this much of its reader in memory.
	partSize, partsAtOnce = 8 << 20, 2
)

// Store is a connection to one bucket. It can't read or write by itself: see
// Tenant. It is safe for concurrent use and needs no closing.
type Store struct {
	client *s3.Client
	upload *transfermanager.Client
	bucket string
}

// Open builds the client (path style when Endpoint is set) and checks that the
// bucket answers, creating it when create is set and it is missing.
func Open(ctx context.Context, cfg Config, create bool) (*Store, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	ac, err := config.LoadDefaultConfig(ctx,
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff = attempts, maxBackoff
			})
		}),
		// Checksums that S3 doesn't require go into trailers, which many other stores refuse.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	)
	if err != nil {
		return nil, fmt.Errorf("open object store: read AWS environment: %w", err)
	}
	client := s3.NewFromConfig(ac, func(o *s3.Options) {
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
			o.UsePathStyle = true
			if o.Region == "" {
				o.Region = regionUnset
			}
		}
	})
	s := &Store{
		client: client,
		bucket: cfg.Bucket,
		upload: transfermanager.New(client, func(o *transfermanager.Options) {
			o.PartSizeBytes = partSize
			o.MultipartUploadThreshold = partSize
			o.Concurrency = partsAtOnce
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.FailTimeout = abortTimeout
		}),
	}
	if err := s.ensureBucket(ctx, create, ac.Region); err != nil {
		return nil, fmt.Errorf("open object store: bucket %s: %w", cfg.Bucket, err)
	}
	return s, nil
}

func (s *Store) ensureBucket(ctx context.Context, create bool, region string) error {
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket})
	if err == nil || !create || !missing(err) {
		return err
	}
	in := &s3.CreateBucketInput{Bucket: &s.bucket}
	if region != "" && region != regionUnset {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{
			LocationConstraint: types.BucketLocationConstraint(region),
		}
	}
	_, err = s.client.CreateBucket(ctx, in)
	if _, ok := errors.AsType[*types.BucketAlreadyOwnedByYou](err); ok {
		return nil // another process was quicker
	}
	return err
}

// Check reports whether the bucket answers.
func (s *Store) Check(ctx context.Context) error {
	return s.ensureBucket(ctx, false, "")
}

// Tenant returns the handle that lives under tenants/<id>/.
func (s *Store) Tenant(id catalog.TenantID) *Objects {
	return &Objects{store: s, prefix: "tenants/" + id.String() + "/"}
}

// Platform is for platform/...; only tenantdb/fleet and cmd hold it.
func (s *Store) Platform() *Objects { return &Objects{store: s, prefix: "platform/"} }
