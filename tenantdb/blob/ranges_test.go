package blob_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"freehold/catalog"
	"freehold/tenantdb/blob"
)

func put(t *testing.T, o *blob.Objects, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if err := o.Put(t.Context(), key, strings.NewReader("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGetRange(t *testing.T) {
	t.Parallel()
	o := open(t).Tenant(catalog.NewTenantID())
	put(t, o, "files/a")
	for _, c := range []struct {
		from, to int64
		want     string
	}{{0, 9, "0123456789"}, {0, 0, "0"}, {3, 5, "345"}, {8, 100, "89"}, {7, -1, "789"}, {0, -1, "0123456789"}} {
		body, info, err := o.GetRange(t.Context(), "files/a", c.from, c.to)
		if err != nil {
			t.Errorf("%d-%d: %v", c.from, c.to, err)
			continue
		}
		got, err := io.ReadAll(body)
		if err = errors.Join(err, body.Close()); err != nil || string(got) != c.want || info.Size != 10 || info.Key != "files/a" || info.ETag == "" {
			t.Errorf("%d-%d: %q of %+v, %v", c.from, c.to, got, info, err)
		}
	}
	if err := o.Put(t.Context(), "empty", strings.NewReader("")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key      string
		from, to int64
		want     error
	}{
		{"files/a", 10, 12, blob.ErrRange}, {"files/a", 10, -1, blob.ErrRange}, {"files/a", 5, 4, blob.ErrRange}, {"files/a", -1, 4, blob.ErrRange},
		{"empty", 0, 0, blob.ErrRange}, {"files/b", 0, 1, blob.ErrNotFound}, {"../a", 0, 1, blob.ErrKey},
	} {
		if body, _, err := o.GetRange(t.Context(), c.key, c.from, c.to); !errors.Is(err, c.want) || body != nil {
			t.Errorf("%s %d-%d: %v, want %v", c.key, c.from, c.to, err, c.want)
		}
	}
}

// An address is good for its object and its verb alone, and for its time.
func TestPresign(t *testing.T) {
	t.Parallel()
	o := open(t).Tenant(catalog.NewTenantID())
	put(t, o, "models/a", "models/b")
	ctx := t.Context()
	send := func(method, url, content string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	read, err := o.PresignGet(ctx, "models/a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := send(http.MethodGet, read, ""); status != http.StatusOK || body != "0123456789" {
		t.Errorf("get: %d %q", status, body)
	}
	write, err := o.PresignPut(ctx, "models/new", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := send(http.MethodPut, write, "written"); status != http.StatusOK {
		t.Errorf("put: %d %q", status, body)
	}
	if got := get(t, o, "models/new"); string(got) != "written" {
		t.Errorf("put wrote %q", got)
	}
	late, err := o.PresignGet(ctx, "models/a", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	bare, _, _ := strings.Cut(read, "?")
	for name, c := range map[string]struct{ method, url string }{
		"without a signature": {http.MethodGet, bare},
		"another object":      {http.MethodGet, strings.Replace(read, "models/a", "models/b", 1)},
		"another verb":        {http.MethodPut, read},
		"longer":              {http.MethodGet, strings.Replace(read, "X-Amz-Expires=60", "X-Amz-Expires=600", 1)},
	} {
		if status, body := send(c.method, c.url, "x"); status < 400 || strings.Contains(body, "0123456789") {
			t.Errorf("%s: %d", name, status)
		}
	}
	if !strings.Contains(read, "X-Amz-Expires=60&") || !strings.Contains(late, "X-Amz-Expires=1&") {
		t.Errorf("they live for another time: %s, %s", read, late)
	}
	for _, sign := range []func() (string, error){
		func() (string, error) { return o.PresignGet(ctx, "../other", time.Minute) },
		func() (string, error) { return o.PresignPut(ctx, "", time.Minute) },
	} {
		if url, err := sign(); !errors.Is(err, blob.ErrKey) || url != "" {
			t.Errorf("a bad key: %v", err)
		}
	}
}

// begun starts uploads that nobody finishes.
func begun(t *testing.T, id catalog.TenantID, bucket string, keys ...string) {
	t.Helper()
	for _, key := range keys {
		full := "tenants/" + id.String() + "/" + key
		up, err := raw(t).CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &full})
		if err != nil {
			t.Fatal(err)
		}
		_, err = raw(t).UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: &bucket, Key: &full, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader([]byte("part")),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func unfinished(t *testing.T, id catalog.TenantID, bucket string) (keys []string) {
	t.Helper()
	out, err := raw(t).ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range out.Uploads {
		if key, ours := strings.CutPrefix(aws.ToString(u.Key), "tenants/"+id.String()+"/"); ours {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func TestDropPrefix(t *testing.T) {
	t.Parallel()
	const bucket = "freehold-drop-prefix"
	s, id := named(t, bucket), catalog.NewTenantID()
	o := s.Tenant(id)
	put(t, o, "models/1/kept/a", "models/1/kept/deep/b", "models/1/other/a", "models/1/c", "models/10/a", "files/1")
	begun(t, id, bucket, "models/1/kept/up", "models/1/other/up", "models/10/up")
	for range 2 {
		if err := o.DropPrefix(t.Context(), "models/1/", "models/1/kept/"); err != nil {
			t.Fatal(err)
		}
		if got := list(t, o, ""); !slices.Equal(got, []string{"files/1", "models/1/kept/a", "models/1/kept/deep/b", "models/10/a"}) {
			t.Errorf("left %q", got)
		}
		if got := unfinished(t, id, bucket); !slices.Equal(got, []string{"models/1/kept/up", "models/10/up"}) {
			t.Errorf("uploads left %q", got)
		}
	}
	if err := o.DropPrefix(t.Context(), "models/1/"); err != nil {
		t.Fatal(err)
	}
	if got := list(t, o, ""); !slices.Equal(got, []string{"files/1", "models/10/a"}) {
		t.Errorf("left %q", got)
	}
	if got := unfinished(t, id, bucket); !slices.Equal(got, []string{"models/10/up"}) {
		t.Errorf("uploads left %q", got)
	}
	// Everything, or what only begins alike, is never meant.
	for _, bad := range [][]string{{""}, {"models/1"}, {"/"}, {"../"}, {"models/10/", ""}, {"models/10/", "models/10/a"}} {
		if err := o.DropPrefix(t.Context(), bad[0], bad[1:]...); !errors.Is(err, blob.ErrKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if got := list(t, o, ""); len(got) != 2 {
		t.Errorf("left %q", got)
	}
}

func TestAbortUploads(t *testing.T) {
	t.Parallel()
	const bucket = "freehold-abort"
	s, id := named(t, bucket), catalog.NewTenantID()
	put(t, s.Tenant(id), "files/1")
	begun(t, id, bucket, "files/1", "files/1", "files/10", "files/1/2")
	for range 2 {
		if err := s.Tenant(id).AbortUploads(t.Context(), "files/1"); err != nil {
			t.Fatal(err)
		}
		if got := unfinished(t, id, bucket); !slices.Equal(got, []string{"files/1/2", "files/10"}) {
			t.Errorf("left %q", got)
		}
	}
	if got := list(t, s.Tenant(id), ""); !slices.Equal(got, []string{"files/1"}) {
		t.Errorf("objects %q", got)
	}
	if err := s.Tenant(id).AbortUploads(t.Context(), "files/"); !errors.Is(err, blob.ErrKey) {
		t.Errorf("a bad key: %v", err)
	}
}
