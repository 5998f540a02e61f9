package blob_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"freehold/catalog"
	"freehold/tenantdb/blob"
)

// raw is the store as any other program sees it.
func raw(t *testing.T) *s3.Client {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.BaseEndpoint, o.UsePathStyle = aws.String(endpoint), true
	})
}

// named opens a bucket of the test's own.
func named(t *testing.T, bucket string) *blob.Store {
	t.Helper()
	s, err := blob.Open(t.Context(), blob.Config{Endpoint: endpoint, Bucket: bucket}, true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Whatever lies under the prefix goes, unfinished uploads too, and nothing else.
func TestDrop(t *testing.T) {
	t.Parallel()
	const bucket = "freehold-drop"
	s, client := named(t, bucket), raw(t)
	gone, kept := catalog.NewTenantID(), catalog.NewTenantID()
	for _, id := range []catalog.TenantID{gone, kept} {
		if err := s.CreatePrefix(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			if err := s.Tenant(id).Put(t.Context(), fmt.Sprintf("files/%d/ä %d", i%3, i), strings.NewReader("12345")); err != nil {
				t.Fatal(err)
			}
		}
		key := "tenants/" + id.String() + "/backups/half"
		up, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: aws.String(bucket), Key: &key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("part"),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	total, err := s.Tenant(gone).Total(t.Context(), "files/")
	if err != nil || total != (blob.Total{Objects: 40, Bytes: 200}) {
		t.Errorf("before: %+v %v", total, err)
	}
	for range 2 {
		if err := s.Drop(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
	}
	if total, err := s.Tenant(gone).Total(t.Context(), ""); err != nil || total != (blob.Total{}) {
		t.Errorf("left: %+v %v", total, err)
	}
	if total, err := s.Tenant(kept).Total(t.Context(), ""); err != nil || total.Objects != 41 {
		t.Errorf("the neighbour has %+v %v", total, err)
	}
	uploads, err := client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)})
	if err != nil {
		t.Fatal(err)
	}
	if len(uploads.Uploads) != 1 || !strings.Contains(aws.ToString(uploads.Uploads[0].Key), kept.String()) {
		t.Errorf("uploads left: %+v", uploads.Uploads)
	}
	if err := s.Drop(t.Context(), catalog.TenantID{}); err == nil {
		t.Error("dropped the prefix of no tenant")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Drop(ended, kept); !errors.Is(err, context.Canceled) {
		t.Errorf("for a caller who left: %v", err)
	}
}

func TestTenants(t *testing.T) {
	t.Parallel()
	const bucket = "freehold-prefixes"
	s, client := named(t, bucket), raw(t)
	first, second := catalog.NewTenantID(), catalog.NewTenantID()
	for _, id := range []catalog.TenantID{first, second} {
		if err := s.Tenant(id).Put(t.Context(), "files/deep/down", strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	strange := []string{
		"tenants/nobody/file", "tenants/beside", "tenants/" + strings.ToUpper(first.String()) + "/x",
	}
	for _, key := range append(strange, "platform/catalog/x") {
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: strings.NewReader("x")}); err != nil {
			t.Fatal(err)
		}
	}
	known, unknown := map[catalog.TenantID]string{}, map[string]bool{}
	err := s.Tenants(t.Context(), func(id catalog.TenantID, ok bool, prefix string) error {
		if ok {
			known[id] = prefix
		} else if unknown[prefix] = true; !id.IsZero() {
			t.Errorf("%s has an id", prefix)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(known) != 2 || known[first] != "tenants/"+first.String()+"/" || known[second] == "" {
		t.Errorf("known: %v", known)
	}
	if len(unknown) != 3 || !unknown["tenants/nobody/"] || !unknown["tenants/beside"] {
		t.Errorf("unknown: %v", unknown)
	}
	stop, calls := errors.New("enough"), 0
	err = s.Tenants(t.Context(), func(catalog.TenantID, bool, string) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestVersioning(t *testing.T) {
	t.Parallel()
	got, err := named(t, "freehold-versions").Versioning(t.Context())
	// The tests' store keeps no versions, and says so or that it can't tell.
	if err != nil || (got != blob.VersioningOff && got != blob.VersioningUnknown) {
		t.Errorf("%q %v", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := named(t, "freehold-versions").Versioning(ended); err == nil {
		t.Errorf("answered %q to a caller who left", got)
	}
}
